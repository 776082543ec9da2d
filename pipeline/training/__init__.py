"""Training on Ray Train workers: what every job that trains a model needs.

`config` are the settings of the workers, `fit` the driver's side, `group` the workers' side.
`trainer` makes checkpoints of transformers' Trainer, with `checksums`.
`failure` carries an error from a worker to the driver, `progress` the measurements, and `delivery`
copies the best checkpoint's model to where users find it. `disk` names a disk that is full.
"""
