"""What can go wrong around the core, in one tree.

PipelineError
├── ConfigError      a setting is unknown, of the wrong type, or contradicts another
├── InputError       prompts cannot be read
├── StoreError       the run folder cannot be used
│   ├── LeaseError   another driver holds it
│   ├── DamagedError (`parts`) a file in it is torn, altered or not ours
│   └── ResumeError  it belongs to another config or to other inputs
└── RunError         the run cannot go on
    └── LoadError    a worker cannot load its models
"""


class PipelineError(Exception):
    """Base of every error the pipeline raises on purpose."""


class ConfigError(PipelineError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class InputError(PipelineError):
    """Prompts cannot be read; the message names file and row."""


class StoreError(PipelineError):
    """The run folder cannot be used."""


class LeaseError(StoreError):
    """Another driver holds the run folder."""


class ResumeError(StoreError):
    """The run folder belongs to another config or to other inputs."""


class RunError(PipelineError):
    """The run cannot go on; what is committed stays."""


class LoadError(RunError):
    """A worker cannot load its models."""
