"""`jobs.train_guide`: training a guide on Ray. Read in this order:

    config       the settings
    data         run folders -> records; `revisions` reads those of traces
    setup        settings -> models, examples and optimiser: a `state.TrainingState`
    training     one optimiser step; `lora` adds adapters to a guide and merges them
    evaluation   what is measured of a guide in training
    checkpoints  a state is saved and loaded
    worker       the loop of steps and checkpoints, as Ray Train runs it
    job          the driver: starts workers, shows progress, stores the guide
    card, folder what driver and workers write into the run folder, besides `pipeline.training`

Everything up to `checkpoints` runs without Ray.
"""
