"""The files in a run folder of `nabla distill`, besides those of `pipeline.training.folder`.

Nothing here imports torch or ray.

    config.yaml    the resolved config     student/    the model, README.md, then `card.json`
    export/        the dataset folder of the section `export`
"""

STUDENT = "student"
EXPORT = "export"
CARD = "student/card.json"
README = "student/README.md"
