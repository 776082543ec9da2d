"""Metadata at the fields of settings: does a run's result depend on the setting?

A setting shapes the result unless its field is marked otherwise. A finished or interrupted run
can be resumed with other values of settings that do not shape it, and of no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

KEY = "shaping"

# The setting, and all settings below it, change no result: `field(..., metadata=NOT_SHAPING)`.
NOT_SHAPING: Mapping[str, Any] = MappingProxyType({KEY: False})

# Branch, tag or commit of a hub model: a name for what `models.json` of a run folder holds as the
# resolved commit. Two names of one commit give the same rows; of two commits the second is refused.
REVISION = NOT_SHAPING

# All settings below this section shape the result, also those that are marked as not shaping
# where their own class defines them.
SHAPING_THROUGHOUT: Mapping[str, Any] = MappingProxyType({KEY: "throughout"})
