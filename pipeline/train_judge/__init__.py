"""`jobs.train_judge`: a judge is trained on answers that a verifier has graded. Read in this order:

    config       the settings
    answers      run folders -> graded answers: first and last responses, candidates of searches
    mixture      which answers are trained on, how often, and in pairs or alone
    judge        the model that is trained, and how it is saved as it will be delivered
    trainers     TRL's RewardTrainer for pairs, transformers' Trainer for labels at positions
    examination  what is measured of a saved judge, beside the last one
    report       the figures as JSON and Markdown; `card` says what the judge is made of
    checkpoints, setup, worker  what Ray Train runs
    job          the driver: starts workers, shows progress, stores the judge
    ready, preview  what is checked before; a dry run

Everything up to `report` runs without Ray.
"""
