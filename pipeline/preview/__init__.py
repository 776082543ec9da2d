"""A dry run: what a run would fail at, and what it would do, before any weight is read.

No Ray is started and nothing is written. Models are known by their configs, tokenizers and the
headers of their weight files (`nabla_core.models.outline`).

    models     LM, judge and guide: do they fit each other, and the method?
    prompts    are prompts rendered, and do they fit the models' contexts?
    resources  are there the devices that are asked for?
    cost       passes and FLOPs to expect
    memory     weights, keys and values, and activations of an actor
    cards      GPUs of data sheets
    hours      what a run would take on one
    rows       all of it, for a job that makes rows of prompts
"""
