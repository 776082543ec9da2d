"""Training of judges: examples, the loss, the scale of rewards, and what is measured.

    examples    a response with labels -> ids of the judge, labels at positions; tensors of a batch
    losses      binary cross-entropy at positions, of a classifier of transformers
    scale       the factor that gives a new judge the scale of an old one
    evaluation  AUC, calibration, and best-of-N curves of rewards

Pairs of a right and a wrong answer are trained on with TRL (`pipeline.train_judge`).
"""
