"""`jobs.export`: run folders in, a dataset folder out.

    index the rows -> filter by facts -> filter by texts -> write the files -> card, facts, _SUCCESS

One process streams: reading and writing Parquet is what takes the time, and no model runs. Under
`ray job submit` it is an entrypoint like any other. Nothing is written before all filters are done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.export import card, filters, folder, texts
from pipeline.export.config import BY_PROMPT, ExportConfig
from pipeline.export.formats import check_tails, converter
from pipeline.export.index import Index, build
from pipeline.export.shards import Units, Writer
from pipeline.export.sources import Reader, Source, describe, digest_of, open_sources
from pipeline.export.student import Student, load_student, without_path
from pipeline.export.texts import Progress
from pipeline.extras import require
from pipeline.references import redacted
from pipeline.store.checks import config_check
from pipeline.store.files import Folder, checksum_of
from pipeline.store.final import SUCCESS
from pipeline.store.lease import hold_lease
from pipeline.store.run_folder import open_folder, translate_os_errors

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, kw_only=True)
class ExportOutcome:
    """A dataset folder that is complete. `facts` is the content of its export.json."""

    out: str
    facts: dict[str, Any]
    already_complete: bool


def export(config: ExportConfig, progress: Progress) -> ExportOutcome:
    """Make the dataset folder, or continue it. `progress(phase, done, total)` is called often.

    Raises InputError, StoreError, ModelError, and RunError where the disk is full. After a
    KeyboardInterrupt the same call continues.
    """
    sources, student = opened(config)
    with translate_os_errors(config.out, "dataset folder"):
        out = open_folder(config.out)
        digest = _digest(config, sources, student)
        _check_out(out, digest, config, sources)
        if out.exists(SUCCESS):
            found = folder.read_export(config.out)
            return ExportOutcome(out=config.out, facts=dict(found.facts), already_complete=True)
        chosen = _choose(config, sources, student, progress)
        with hold_lease(out, config.lease_seconds) as lease:
            _check_out(lease.folder, digest, config, sources)
            folder.claim(lease.folder, digest, public(config, sources))
            facts = _write(lease.folder, config, chosen, digest, progress)
    return ExportOutcome(out=config.out, facts=facts, already_complete=False)


def opened(config: ExportConfig) -> tuple[list[Source], Student | None]:
    """The run folders and the student's tokenizer. Raises ConfigError where a package is missing,
    InputError and ModelError; changes nothing."""
    if config.filters.near_duplicates.threshold is not None:
        require("rensa", "export", "filters.near_duplicates.threshold")
    sources = open_sources(config.run_dir, allow_partial=config.allow_partial)
    check_tails(config, [_candidates(source) for source in sources])
    return sources, _student(config, sources)


def check_out(config: ExportConfig, sources: list[Source], student: Student | None) -> Folder:
    """The dataset folder. Raises ResumeError where it holds something else; changes nothing."""
    out = open_folder(config.out)
    _check_out(out, _digest(config, sources, student), config, sources)
    return out


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The traces of an export, after all filters."""

    reader: Reader
    index: Index
    student: Student | None
    removed: list[dict[str, Any]]
    splits: dict[str, Units]


def _student(config: ExportConfig, sources: list[Source]) -> Student | None:
    """The student's tokenizer, for a format that needs one. Raises InputError, ModelError."""
    if config.format in ("rl", "groups"):
        return None
    path, revision = config.tokenizer.path, config.tokenizer.revision
    if path is None:
        lm = sources[0].config.get("lm") or {}
        path, revision = lm.get("path"), lm.get("revision")
        if not path or path.partition("?")[0] == "scripted":
            raise InputError(
                f"{sources[0].uri} names no LM with a tokenizer ({path}): set tokenizer.path"
            )
    student = load_student(path, revision)
    if reads_conversations(config):
        student.check_template()
    return student


def reads_conversations(config: ExportConfig) -> bool:
    """Whether the student's template renders the rows."""
    if config.format == "sft":
        return config.layout != "text"
    return config.format in ("preference", "kto")


def _candidates(source: Source) -> str | None:
    store = source.config.get("store") or {}
    found: str | None = store.get("candidates")
    return found


def _digest(config: ExportConfig, sources: list[Source], student: Student | None) -> str:
    """16 hex digits of all that the rows depend on."""
    parts = (config_check.digest(config), digest_of(sources), student and student.facts())
    return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def public(config: ExportConfig, sources: Sequence[Source]) -> dict[str, Any]:
    """The settings without a path of this machine: files and folders by their names."""
    settings = asdict(config)
    del settings["out"]
    settings["run_dir"] = [source.name for source in sources]
    if config.tokenizer.path is not None:
        settings["tokenizer"]["path"] = without_path(config.tokenizer.path)
    decontamination = settings["filters"]["decontamination"]
    decontamination["benchmarks"] = [PurePath(b).name for b in decontamination["benchmarks"]]
    # As JSON gives them back: a tuple is a list.
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _check_out(out: Folder, digest: str, config: ExportConfig, sources: list[Source]) -> None:
    stored, now = folder.stored_settings(out), public(config, sources)
    free = config_check.not_shaping(ExportConfig)
    lines = [
        f"\n  {key}: {stored.get(key, 'not set')} in the folder, {now[key]} now"
        for key in sorted(now)
        if stored and key not in free and stored.get(key) != now[key]
    ]
    same = "\n  its run folders or the tokenizer were others" if stored and not lines else ""
    folder.check_free(out, digest, "".join(lines) or same)


def filtered(
    config: ExportConfig,
    reader: Reader,
    student: Student | None,
    progress: Progress,
    first: int | None = None,
) -> tuple[Index, list[dict[str, Any]]]:
    """The index after all filters, of all traces or of the `first` ones of each run folder, and
    what decontamination removed. Raises InputError."""
    index = build(reader, first)
    made = converter(config, student, index.turns)
    _check_tokenizer(config, index, student)
    if index.turns.tools and student is not None and reads_conversations(config):
        student.check_tools()
    filters.before_texts(index, config)
    removed = texts.filter_texts(index, reader, config, made, student, progress)
    filters.after_texts(index, config.filters)
    if config.format == "reward":
        units = units_of(index, index.kept, by_prompt=True)
        found = units.of(0, len(units))
        texts.drop_empty_units(index, reader, config, made, found, progress)
    return index, removed


def nothing_left(index: Index) -> InputError:
    """The error of an export without rows, with the counts by reason."""
    counts = "".join(f"\n  {n} {reason}" for reason, n in index.counts().items())
    return InputError(f"nothing is left of {len(index)} traces:{counts}")


def _choose(
    config: ExportConfig, sources: list[Source], student: Student | None, progress: Progress
) -> _Chosen:
    reader = Reader(sources)
    index, removed = filtered(config, reader, student, progress)
    kept = index.kept
    if not len(kept):
        raise nothing_left(index)
    held_out = filters.held_out(index, config.split)[kept]
    by_prompt = config.format in BY_PROMPT
    splits = {TRAIN: units_of(index, kept[~held_out], by_prompt=by_prompt)}
    if config.split.held_out:
        splits[TEST] = units_of(index, kept[held_out], by_prompt=by_prompt)
    for name, units in splits.items():
        if not len(units):
            raise InputError(
                f"split {name} is empty: all {len(kept)} traces are in the other one; set "
                "split.held_out or split.seed"
            )
    return _Chosen(reader=reader, index=index, student=student, removed=removed, splits=splits)


def units_of(index: Index, rows: np.ndarray[Any, Any], *, by_prompt: bool) -> Units:
    """Rows of the index as units: a row each, or a prompt each in the order of their first rows."""
    if not by_prompt:
        return Units(order=rows, starts=np.arange(len(rows)))
    _, first, prompt = np.unique(index.prompt[rows], return_index=True, return_inverse=True)
    order = np.lexsort((rows, first[prompt]))
    keys = first[prompt][order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else keys
    return Units(order=rows[order], starts=starts)


def _check_tokenizer(config: ExportConfig, index: Index, student: Student | None) -> None:
    """Raises InputError where token ids of a row are not those of the tokenizer."""
    if student is None or config.format == "kto":
        return
    if config.format == "sft" and config.layout != "text":
        return
    others = index.tokenizers - {student.fingerprint}
    if others:
        raise InputError(
            f"format={config.format} takes token ids of the traces, made with tokenizer "
            f"{', '.join(sorted(others))}, and {student.name} has {student.fingerprint}: set "
            "tokenizer.path to the LM that made them, or export format=sft"
        )


def _write(
    out: Folder, config: ExportConfig, chosen: _Chosen, digest: str, progress: Progress
) -> dict[str, Any]:
    index, student = chosen.index, chosen.student
    writer = Writer(
        folder=out,
        reader=chosen.reader,
        index=index,
        converter=converter(config, student, index.turns),
        digest=digest,
        rows_per_file=config.rows_per_file,
        progress=progress,
    )
    splits: dict[str, int] = {}
    files: dict[str, str] = {}
    for name, units in chosen.splits.items():
        splits[name], sums = writer.split(name, units)
        files |= sums
    if chosen.removed:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in chosen.removed]
        out.write(folder.CONTAMINATED, "".join(lines).encode())
    sources = chosen.reader.sources
    facts = {
        "schema": folder.SCHEMA,
        "format": config.format,
        "layout": config.layout if config.format == "sft" else None,
        "config": public(config, sources),
        "config_hash": digest,
        "sources": [
            describe(source, rows)
            for source, rows in zip(sources, index.rows_of_source, strict=True)
        ],
        "partial": not all(source.complete for source in sources),
        "tokenizer": student.facts() if student else None,
        "read": len(index),
        "dropped": index.counts(),
        "kept": len(index.kept),
        "tools": index.turns.tools,
        "splits": splits,
        "statistics": _statistics(index),
        "files": files,
    }
    out.write(folder.CARD, redacted(card.text(out, config.card, facts)).encode())
    content = json.dumps(facts, indent=2, ensure_ascii=False).encode()
    out.write(folder.FACTS, content)
    out.write(SUCCESS, f"{checksum_of(content)}\n".encode())
    return facts


def _statistics(index: Index) -> dict[str, Any]:
    kept = index.kept
    graded = index.correct[kept][index.correct[kept] >= 0]
    values = {
        "reward": index.reward[kept],
        "gain": index.gain[kept].astype(np.float64),
        "correct": graded == 1,
        "changed": index.changed[kept],
        "tokens": index.tokens[kept],
    }
    means: dict[str, float | None] = {}
    for name, column in values.items():
        known = column[~np.isnan(column)] if column.dtype == np.float64 else column
        means[name] = round(float(known.mean()), 6) if len(known) else None
    return {"means": means, "prompts": len(np.unique(index.prompt[kept]))}
