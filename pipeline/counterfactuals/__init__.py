"""The job `counterfactuals`: prompts in, responses with scored alternatives out."""
