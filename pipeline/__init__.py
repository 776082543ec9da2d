"""Offline generation on Ray, around the core.

A room for each job: `generate`, `counterfactuals`, `tune`, `train_guide`, `improve`, `duality`.
Below them `run` makes rows of prompts on Ray, and `store`, `tables`, `inputs` and `grading` know
nothing of Ray. import-linter holds the layers (pyproject.toml).
"""
