"""The errors of the pipeline, in one tree.

PipelineError
├── ConfigError      a setting is unknown, of the wrong type, or contradicts another
│   └── UnknownKeyError a key that the command does not have
├── InputError       prompts cannot be read
├── StoreError       the run folder cannot be used
│   ├── LeaseError   another driver holds it
│   ├── DamagedError a file in it is torn, altered or written by another run
│   ├── VersionError it was made by a release with another layout of files
│   └── ResumeError  it belongs to another config or to other inputs
└── RunError         the run cannot continue
    ├── LoadError    a worker cannot load its models
    └── PlacementError  Ray does not place its actors
"""

from __future__ import annotations

from collections.abc import Sequence


class PipelineError(Exception):
    """Base of all errors that the pipeline raises on purpose."""


class ConfigError(PipelineError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class UnknownKeyError(ConfigError):
    """A key that the command's config does not have; `keys` are all such keys of one source."""

    def __init__(self, message: str, keys: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class InputError(PipelineError):
    """Prompts cannot be read; the message names file and row."""


class StoreError(PipelineError):
    """The run folder cannot be used."""


class LeaseError(StoreError):
    """Another driver holds the run folder."""


class DamagedError(StoreError):
    """A file of the run folder is torn, altered or written by another run; the message says how.

    `file` is its name in the run folder, "" where the caller of the reader knows it.
    """

    def __init__(self, message: str, file: str = "") -> None:
        super().__init__(message)
        self.file = file


class ResumeError(StoreError):
    """The run folder belongs to another config or to other inputs."""


class VersionError(StoreError):
    """The run folder was made by a release with another layout of files."""


class RunError(PipelineError):
    """The run cannot continue; committed rows stay."""


class LoadError(RunError):
    """A worker cannot load its models."""


class PlacementError(RunError):
    """Ray places no actor: what it needs is not free, or Ray is broken."""
