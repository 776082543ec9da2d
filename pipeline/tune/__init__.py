"""The job `tune`: candidate settings of the search, compared on validation prompts."""
