"""The card of a dataset folder: README.md with the hub's data in front."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import pyarrow.parquet as pq
import yaml

from pipeline.export.config import Card
from pipeline.export.folder import CONTAMINATED, DEFAULT, METADATA
from pipeline.store.files import Folder

_TASKS = {"rl": "reinforcement-learning", "groups": "reinforcement-learning"}
_SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")),
    *((10**7, "1M<n<10M"), (10**8, "10M<n<100M")),
)
_SHOWN = 2000  # characters of a row


def text(folder: Folder, settings: Card, facts: Mapping[str, Any]) -> str:
    """The card of the files that are in the folder. `facts` become its export.json."""
    # It takes a second to import.
    from huggingface_hub import DatasetCard, DatasetCardData  # noqa: PLC0415

    data = DatasetCardData(
        language=list(settings.language) or None,
        license=settings.license,
        tags=["synthetic", "nabla-pipeline", facts["format"]],
        size_categories=[_size(sum(facts["splits"].values()))],
        task_categories=[_TASKS.get(facts["format"], "text-generation")],
        configs=[_config(name, facts["splits"]) for name in (DEFAULT, METADATA)],
    )
    title = settings.title or PurePath(folder.root).name
    parts = [
        f"# {title}",
        _summary(facts),
        "## How to load it",
        _usage(title),
        "## Sources",
        _sources(facts, settings),
        "## Filters",
        _filters(facts),
        "## Statistics",
        _statistics(facts),
        "## Rows",
        _rows(folder, facts, settings.rows),
        "## Settings",
        f"```yaml\n{yaml.safe_dump(facts['config'], sort_keys=False).strip()}\n```",
    ]
    card = DatasetCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")
    return str(card)


def _config(name: str, splits: Mapping[str, int]) -> dict[str, Any]:
    files = [{"split": split, "path": f"{name}/{split}-*.parquet"} for split in splits]
    return {
        "config_name": name,
        "data_files": files,
        **({"default": True} if name == DEFAULT else {}),
    }


def _size(rows: int) -> str:
    return next((name for bound, name in _SIZES if rows < bound), "100M<n<1B")


def _summary(facts: Mapping[str, Any]) -> str:
    kind = facts["format"] + (f" ({facts['layout']})" if facts["layout"] else "")
    rows = ", ".join(f"{count} rows in `{name}`" for name, count in facts["splits"].items())
    lines = [f"Format {kind}: {rows}. Made by nabla-pipeline from traces of a language model."]
    if facts["partial"]:
        lines.append(
            "**Not all of a run:** a run folder was not complete when it was exported "
            "(`allow_partial`)."
        )
    if facts["tools"]:
        lines.append(
            "Prompts have tools: the column `tools` is the JSON text of a list of JSON Schemas, as "
            "TRL takes it; null where a prompt has none."
        )
    return "\n\n".join(lines)


def _usage(title: str) -> str:
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        f'rows = load_dataset("{title}", split="train")\n'
        f'traces = load_dataset("{title}", "{METADATA}", split="train")\n```\n\n'
        f"`{DEFAULT}` has the rows to train on, `{METADATA}` all columns of the traces behind them."
    )


def _sources(facts: Mapping[str, Any], settings: Card) -> str:
    lines = [
        "| run | traces | complete | prompts | models |",
        "|---|---|---|---|---|",
    ]
    for source in facts["sources"]:
        models = "<br>".join(
            f"{role}: {model['name']} ({model['revision']})"
            for role, model in sorted(source["models"].items())
        )
        prompts = " ".join(str(v) for v in source["prompts"].values() if v is not None)
        complete = "yes" if source["complete"] else "no"
        lines.append(
            f"| {source['folder']} | {source['rows']} | {complete} | {prompts} | {models} |"
        )
    if settings.source_licenses:
        lines += ["", "Licenses of the sources, as given:", ""]
        lines += [f"- {license}" for license in settings.source_licenses]
    tokenizer = facts["tokenizer"]
    if tokenizer:
        lines += ["", f"Tokenizer: {tokenizer['name']} ({tokenizer['fingerprint']})."]
    return "\n".join(lines)


def _filters(facts: Mapping[str, Any]) -> str:
    lines = ["| traces | |", "|---|---|", f"| {facts['read']} | read |"]
    lines += [f"| {count} | dropped: {reason} |" for reason, count in facts["dropped"].items()]
    lines.append(f"| {facts['kept']} | kept |")
    names = facts["config"]["filters"]["decontamination"]["benchmarks"]
    if names:
        found = f"; `{CONTAMINATED}` lists what was removed" if facts["dropped"] else ""
        lines += ["", f"Decontaminated against {', '.join(names)}{found}."]
    return "\n".join(lines)


def _statistics(facts: Mapping[str, Any]) -> str:
    means = facts["statistics"]["means"]
    lines = ["| mean of the kept traces | |", "|---|---|"]
    lines += [f"| {name} | {value:.4g} |" for name, value in means.items() if value is not None]
    lines.append(f"| prompts | {facts['statistics']['prompts']} |")
    return "\n".join(lines)


def _rows(folder: Folder, facts: Mapping[str, Any], count: int) -> str:
    name = next(file for file in facts["files"] if file.startswith(f"{DEFAULT}/"))
    with folder.fs.open_input_file(folder.path(name)) as source:
        batch = next(pq.ParquetFile(source).iter_batches(batch_size=max(count, 1)), None)
    shown = [] if batch is None else batch.to_pylist()[:count]
    blocks = []
    for row in shown:
        content = json.dumps(row, ensure_ascii=False, indent=1)
        more = " ..." if len(content) > _SHOWN else ""
        blocks.append(f"````json\n{content[:_SHOWN]}{more}\n````")
    return "\n\n".join(blocks)
