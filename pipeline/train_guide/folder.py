"""The files in a run folder of guide training, besides those of `pipeline.training.folder`.

Nothing here imports torch or ray.

    config.yaml    the resolved config     guide/    the model, then `card.json`

A checkpoint also holds `state.pt`: the trained parameters and the state of AdamW.
"""

CARD = "guide/card.json"
STATE = "state.pt"
