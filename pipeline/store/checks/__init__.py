"""Whether a run folder is one that this job, config, version and these models may continue."""
