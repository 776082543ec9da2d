"""How the embedded models are made: `python -m nabla_core.embedded.recipe.train`.

corpus, flawed          training data: chains with labels and corruptions, flawed arithmetic
models, rollouts        the models from their configuration, and batched generation
train_lm, train_judge   the LM and the judge, which are shipped
train_guide             gold-aligned guides, for comparison only
measure                 what each model achieves
train                   all stages in order
"""
