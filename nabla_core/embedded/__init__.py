"""A task, a tiny LM and two tiny reward models on which the method really works.

They demonstrate the mechanism in seconds on two CPU cores; they are no evidence about
natural reward models. `task` makes and grades prompts, `weights.folder` finds the models,
`python -m nabla_core.embedded.recipe.train` makes them again.
"""
