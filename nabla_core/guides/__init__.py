"""Guides: models that predict which replacement of a token would raise the reward.

`base` says what a guide is. `gradient` takes advantages from a backward pass of a reward model,
`head` predicts them. Guides are trained in `nabla_core.guide_training`.
"""
