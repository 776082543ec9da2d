"""What the pages of traces are made of: the overview, the index in blocks, and chunks of rows.

run.js        titles, figures, settings       index/N.js    columns of BLOCK rows
chunks.js     the first row of each chunk     search/N.js   terms of BLOCK rows
pairs.js      rows of the same prompts        search/N_M.js rows of these terms
ids/N.js      the rows of ids                 words/N.js    words of WORDS rows
                                              rows/N.js     whole rows
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

import nabla_core
from pipeline.report import search
from pipeline.report.arms import Arm, comparison, described, partners
from pipeline.report.index import COLUMNS, ID_CHARACTERS, Methods, Part, joined, packed
from pipeline.report.scripts import json_script, script

# An order by a number shows rows of many blocks of words: small ones are read sooner. A block has
# whole blocks of words.
BLOCK, WORDS = 50_000, 500


def overview(
    arms: Sequence[Arm],
    parts: Sequence[Part],
    methods: Methods,
    *,
    chunks: int,
    version: int,
    compared: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of run.js; `parts` are the indexes of the runs. `version` grows whenever a server
    shows other rows, and 0 means that the pages do not change. `compared` are the figures of
    `nabla compare`."""
    return {
        **head("traces", compared["title"] if compared else " and ".join(a.name for a in arms)),
        "version": version,
        "arms": [described(arm, part) for arm, part in zip(arms, parts, strict=True)],
        "compared": compared,
        "comparisons": [comparison(parts[0], part) for part in parts[1:]],
        "methods": methods.names,
        "rows": sum(map(len, parts)),
        "starts": np.cumsum([0, *map(len, parts)]).tolist(),
        "columns": COLUMNS,
        "block": BLOCK,
        "words": WORDS,
        "shard": search.SHARD,
        "ids": {"bits": search.id_bits(sum(map(len, parts))), "characters": ID_CHARACTERS},
        "chunks": chunks,
    }


def head(kind: str, title: str) -> dict[str, Any]:
    """What every report begins with."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"kind": kind, "title": title, "made": made, "release": nabla_core.__version__}


def index_scripts(whole: Part, parts: Sequence[Part]) -> dict[str, bytes]:
    """The scripts of the columns, of ids, and of pairs where there are several runs."""
    scripts = {
        f"index/{number}": script(f"index/{number}", packed(whole.columns, start, start + BLOCK))
        for number, start in enumerate(range(0, len(whole), BLOCK))
    }
    for number, data in enumerate(search.id_scripts(whole.ids)):
        scripts[f"ids/{number}"] = script(f"ids/{number}", data)
    if len(parts) > 1:
        pairs = [np.full(len(parts[0]), -1, dtype="i4")]
        pairs += [partners(parts[0], part) for part in parts[1:]]
        scripts["pairs"] = script("pairs", np.concatenate(pairs).astype("<i4").tobytes())
    return scripts


def search_scripts(number: int, lines: Sequence[str]) -> dict[str, bytes]:
    """The scripts of the terms of a block of rows, of their words, and of the rows of terms."""
    name = f"search/{number}"
    terms, shards = search.terms_data(lines)
    parts = {f"{name}_{shard}": data for shard, data in enumerate(shards)}
    return {part: script(part, data) for part, data in {name: terms, **parts}.items()}


def words_script(number: int, lines: Sequence[str]) -> bytes:
    """The script of the words of a block of rows."""
    return script(f"words/{number}", "\n".join(lines).encode())


def chunks_script(starts: Sequence[int]) -> bytes:
    """The script of the first row of each chunk."""
    return script("chunks", np.array(starts, dtype="<u4").tobytes())


def run_script(value: dict[str, Any]) -> bytes:
    """The script of the overview."""
    return json_script("run", value)


def whole_of(parts: Sequence[Part]) -> Part:
    """The index of all runs."""
    return joined(parts)
