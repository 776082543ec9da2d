"""The job `generate`: prompts in, refined responses out."""
