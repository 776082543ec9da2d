"""A second task for guides, in words: short stories of counting, days told out of order.

    python -m tests.bench.stories.train --out runs/stories

makes its LM and judge (nothing of it is shipped) and writes prompts as JSONL; the jobs then run
on them as on any models and prompts of a user (the configs beside this file), and
tests.bench.guides --task stories compares the guides.
"""
