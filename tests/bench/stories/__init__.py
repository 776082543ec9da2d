"""A second task for guides, in words: short counting stories whose days come out of order.

    python -m tests.bench.stories.train --out runs/stories

makes the LM and the judge (they are not shipped) and writes prompts as JSONL. The jobs then run on
them as on the models and prompts of any user (see the configs in this folder), and
`tests.bench.guides --task stories` compares the guides.
"""
