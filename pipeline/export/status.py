"""What a dataset folder holds, and whether it is complete. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.export.config import Filters
from pipeline.export.folder import read_export, stored_settings
from pipeline.run.status import RunState, state_of
from pipeline.store.claims import holder
from pipeline.store.files import Folder
from pipeline.store.final import SUCCESS


@dataclass(frozen=True, kw_only=True)
class ExportStatus:
    """The state of a dataset folder. `filters` are those that are set, by their dotted keys.
    `facts` is the content of export.json, None where the folder is not complete."""

    state: RunState
    holder: str | None
    format: str
    run_folders: list[str]
    filters: dict[str, Any]
    facts: Mapping[str, Any] | None


def export_status(folder: Folder) -> ExportStatus:
    """The status of a folder of `nabla export`. Raises InputError where a complete one is
    damaged."""
    complete = folder.exists(SUCCESS)
    facts = read_export(folder.uri).facts if complete else None
    settings = facts["config"] if facts else stored_settings(folder)
    driver = holder(folder)
    layout = settings.get("layout") if settings.get("format") == "sft" else None
    return ExportStatus(
        state=state_of(driver, finished=complete),
        holder=driver,
        format=", ".join(filter(None, (settings.get("format", "unknown"), layout))),
        run_folders=list(settings.get("run_dir", ())),
        filters=dict(_changed(settings.get("filters") or {}, _plain(asdict(Filters())))),
        facts=facts,
    )


def _plain(value: Any) -> Any:
    """As JSON gives it back: a tuple is a list."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _changed(
    settings: Mapping[str, Any], default: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _changed(value, default.get(key) or {}, f"{prefix}{key}.")
        elif value != default.get(key):
            yield f"{prefix}{key}", value
