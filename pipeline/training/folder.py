"""The files that every run folder of a training has. Nothing here imports torch or ray.

    history.json   all measurements        train/    Ray Train's checkpoints
    failed.json    an error that another attempt would only repeat
    progress.json  how many steps are taken, and how fast
    logs/          TensorBoard's files, if it is named in `report_to`

A checkpoint holds `model/`, a plain model as it would be delivered (adapters merged), and what
training needs to continue. One of transformers' Trainer also holds `provenance.json`: the digests
of base and data, with which alone it may be continued, and `checksums.json`: the checksums of the
other files of the first worker.
"""

HISTORY, FAILED, TRAIN = "history.json", "failed.json", "train"
PROGRESS = "progress.json"
LOGS = "logs"
MODEL, PROVENANCE, CHECKSUMS = "model", "provenance.json", "checksums.json"
# The metric that checkpoints are compared by; the highest is delivered.
SELECTION = "selection_score"
# By job the file that its training writes last.
CARDS = {
    "train-guide": "guide/card.json",
    "train-judge": "judge/card.json",
    "distill": "student/card.json",
}
