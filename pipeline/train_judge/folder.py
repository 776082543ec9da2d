"""The files in a run folder of `nabla train-judge`, besides those of `pipeline.training.folder`.

Nothing here imports torch or ray.

    config.yaml   the resolved config
    judge/        the model, `report.json` and README.md with its figures, then `card.json`
"""

JUDGE = "judge"
CARD = "judge/card.json"
README = "judge/README.md"
REPORT = "judge/report.json"
