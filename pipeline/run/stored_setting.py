"""A setting that a run found out once: its run folder keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.store.checks.config_check import CONFIG
from pipeline.store.run_folder import open_folder, translate_os_errors


def stored_setting(run_dir: str, key: str) -> Any:
    """The value of a dotted key in the config of a run folder; None where it has none. Raises
    StoreError."""
    folder = open_folder(run_dir)
    with translate_os_errors(run_dir):
        if not folder.exists(CONFIG):
            return None
        text = folder.read(CONFIG)
    try:
        node: Any = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None  # `config_check` says what a damaged config means
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
