"""The files in a run folder of guide training. Nothing here imports torch or ray.

    config.yaml    the resolved config     train/       Ray Train's checkpoints
    history.json   all measurements        guide/       the model, then `card.json`
    failed.json    an error that another attempt would only repeat

A checkpoint holds `model/`, a plain model (adapters merged, calibrated), and `state.pt`: the
trained parameters and the state of AdamW.
"""

HISTORY, CARD, FAILED = "history.json", "guide/card.json", "failed.json"
MODEL, STATE = "model", "state.pt"
