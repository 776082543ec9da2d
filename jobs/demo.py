"""What `make demo` runs: 64 embedded prompts through the whole pipeline on a local Ray.

Every demo gets a new folder runs/demo-N; one that was interrupted is resumed first.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.dataset

from jobs import console, generate
from pipeline.errors import StoreError
from pipeline.run.status import standing

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "embedded.yaml"
RUNS = Path("runs")


def main() -> int:
    """Run the demo; returns the exit code of the job."""
    started = time.monotonic()
    run_dir = _folder()
    code = generate.main(["--config", str(CONFIG), f"run_dir={run_dir}"])
    if code != 0:
        return code
    rows = pyarrow.dataset.dataset(run_dir / "data").to_table().to_pylist()
    _show_trace(rows)
    console.say(f"\n{time.monotonic() - started:.0f} s in all. Rows are in {run_dir}/data\n")
    _next_steps(run_dir)
    return 0


def _folder() -> Path:
    number = 1
    while (folder := RUNS / f"demo-{number}").exists():
        try:
            stopped = standing(str(folder)).state == "stopped"
        except StoreError:
            stopped = True
        if stopped:
            console.say(f"resuming {folder}, which was interrupted")
            return folder
        number += 1
    return folder


def _show_trace(rows: list[dict[str, Any]]) -> None:
    once = [r for r in rows if sum(x["accepted"] for x in r["revisions"]) == 1]
    repaired = [r for r in once if r["correct"] and not r["base_correct"]]
    if not once:
        console.say("no response was revised exactly once")
        return
    row = (repaired or once)[0]
    revision = next(x for x in row["revisions"] if x["accepted"])
    before, after = row["base_response"], row["response"]
    pairs = zip(before, after, strict=False)
    start = next(n for n, (old, new) in enumerate(pairs) if old != new)
    console.say(f"one of the revised traces, {row['prompt_id']} (the changed token in brackets):")
    console.say(f"  prompt  {row['question']}")
    for name, text, token, reward, correct in (
        ("before", before, revision["from_text"], row["base_reward"], row["base_correct"]),
        ("after ", after, revision["to_text"], row["reward"], row["correct"]),
    ):
        marked = f"{text[:start]}[{token}]{text[start + len(token) :]}"
        verdict = "right" if correct else "wrong"
        console.say(f"  {name}  {marked}  reward {reward:.3f}, last digit {verdict}")


def _next_steps(run_dir: Path) -> None:
    console.say(
        f"""next:
  . .venv/bin/activate
  python -m jobs.status run_dir={run_dir}
  python -m jobs.generate --config configs/embedded.yaml --limit 512 run_dir=runs/more
  python -m jobs.generate --config configs/embedded.yaml --dry-run prompts.path=yours.jsonl
  python -c "import datasets; print(datasets.load_dataset('{run_dir}', split='train'))\""""
    )


if __name__ == "__main__":
    sys.exit(main())
