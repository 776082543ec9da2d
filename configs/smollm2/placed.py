"""How many proposals of a search begin one of the words that the prompt asks for.

    python -m configs.smollm2.placed RUN_FOLDER ...

prints a line for each run folder of searches: the proposals, the share whose first word is one of
the given words, that share of the accepted ones, and how often each kind was accepted.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import AutoTokenizer

from configs.smollm2.keywords import WORD, given_stems, stem
from nabla_core.embedded.weights import model_location


def counts(rows: list[dict[str, Any]], tokenizer: Any) -> Counter[tuple[bool, bool]]:
    """Proposals by whether they begin a given word and whether they were accepted."""
    found: Counter[tuple[bool, bool]] = Counter()
    for row in rows:
        given = given_stems(row["expected_answer"])
        for one in row["revisions"]:
            first = WORD.match(tokenizer.decode(one["tail_token_ids"]).lstrip())
            placed = first is not None and stem(first[0].lower()) in given
            found[placed, one["accepted"]] += 1
    return found


def _share(part: int, whole: int) -> float | None:
    """None where there is nothing to have a share of."""
    return round(part / whole, 3) if whole else None


def main() -> None:
    """Print a line for each run folder."""
    tokenizer = AutoTokenizer.from_pretrained(model_location("smollm2", "lm"))
    for folder in sys.argv[1:]:
        table = pq.read_table(Path(folder) / "data", columns=["expected_answer", "revisions"])
        found = counts(table.to_pylist(), tokenizer)
        total, accepted = found.total(), found[True, True] + found[False, True]
        placed = found[True, True] + found[True, False]
        if total == 0:
            sys.exit(f"{folder}: no row has a proposal; is it a run of decoding.method=nabla?")
        line = {
            "run": folder,
            "proposals": total,
            "placed": round(placed / total, 3),
            "placed of accepted": _share(found[True, True], accepted),
            "accepted": round(accepted / total, 3),
            "accepted of placed": _share(found[True, True], placed),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
