"""Names in a run folder of guide training. Nothing here imports torch or ray.

    config.yaml    the resolved config     train/       Ray Train's checkpoints
    history.json   every measurement       guide/       the model, `card.json` last
    failed.json    an error that training again would repeat

A checkpoint holds `model/`, a plain model (adapters merged, calibrated), and `state.pt`: what
was learned, and AdamW's moments.
"""

HISTORY, CARD, FAILED = "history.json", "guide/card.json", "failed.json"
MODEL, STATE = "model", "state.pt"
