"""`jobs.distill`: a student is trained on exported traces. Read in this order:

    config       the settings
    exports      folders of `nabla export`: what they hold, and whether it can be trained on
    rows         their rows as TRL's trainers take them
    student      the model that is trained, and how it is saved as it will be delivered
    trainers     TRL's SFTTrainer or DPOTrainer with these settings
    measure      greedy answers of a saved model: accuracy, reward, responses that stop
    checkpoints  a checkpoint is measured and handed to Ray Train
    worker       what Ray Train runs
    job          the driver: starts workers, shows progress, stores the student
    preview      the dry run
    card, folder what driver and workers write into the run folder, besides `pipeline.training`

Everything up to `measure` runs without Ray.
"""
