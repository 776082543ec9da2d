"""Training a guide on counterfactuals: tokens that were tried at positions of a response, with
the score of each outcome.

    settings     the configuration of a training: loss terms, optimiser, LoRA
    values       the scores of a token's tails -> its value
    examples     records (LM ids) -> examples (guide ids) -> batches of tensors
    trainees     two kinds of guide as models in training: gradient and head
    value_head   the third: a network on the hidden states of the frozen LM
    head_model   a causal LM turned into a head that predicts advantages
    losses       the loss terms
    teacher      a head that labels every position, for a gradient guide to learn from
    evaluation   agreement with held-out scores, and the search that the guide is trained for

`pipeline.train_guide` reads the data, runs the steps and stores checkpoints.
"""
