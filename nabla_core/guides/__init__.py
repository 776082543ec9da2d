"""Guides: models that predict which replacement of a token would raise the reward.

`base` says what a guide is. `gradient` takes advantages from a backward pass of a reward model,
`head` predicts them in a forward pass of its own, `value_head` from the LM's hidden states. Guides
are trained in `nabla_core.guide_training`.
"""
