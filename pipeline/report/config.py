"""Settings of `jobs.report`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass

from nabla_core.config import check

# Arms are numbered in one byte; the address of a page and a choice of runs should stay readable.
MOST_RUNS = 64


@dataclass(frozen=True)
class ReportConfig:
    """What `nabla report` shows, and where it writes the pages.

    Attributes:
        run_dir: Run folders, or their URIs: one run of any command, a comparison of
            `nabla compare`, or several runs of traces, which are compared prompt by prompt.
            `run_dir=a` and `run_dir=a,b` are short for lists.
        out: The folder of the pages, which must be empty or hold an earlier report; null: beside
            the first run folder, with `-report` behind its name.
        tokenizer: A model folder with the tokenizer of the runs' LM; null: the one that `lm.path`
            of each run leads to. Without one tokens are neither shaded nor marked.
        port: The port on 127.0.0.1 of `--serve`; 0: a free one.
    """

    run_dir: tuple[str, ...]
    out: str | None = None
    tokenizer: str | None = None
    port: int = 8764

    def __post_init__(self) -> None:
        runs = self.run_dir
        check(bool(runs), "run_dir: name at least one run folder")
        check(len(runs) <= MOST_RUNS, f"run_dir may name {MOST_RUNS} folders at most")
        check(len(set(runs)) == len(runs), "run_dir names a folder twice")
        check(0 <= self.port < 65536, f"port must be between 0 and 65535, got {self.port}")
