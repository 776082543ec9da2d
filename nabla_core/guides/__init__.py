"""Training guides from counterfactuals: what a token's replacements turned out to be worth.

`examples` turns counterfactuals into ids and scores, `trainees` are the two kinds of guide in
training, `targets` the losses, `measure` what is held out for. Loops, checkpoints and files
are `pipeline`'s.
"""
