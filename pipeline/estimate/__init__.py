"""`jobs.estimate`: memory, passes, FLOPs and hours of a run of `nabla generate`, from its config
alone. No weight, tokenizer or prompt is read.

config   the settings
shapes   the configs of models: of a folder, or recorded here for the ids of known ones
job      the estimate
"""
