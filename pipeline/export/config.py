"""Settings of `jobs.export`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import check
from nabla_core.config_metadata import NOT_SHAPING

Format = Literal["sft", "tokens", "preference", "kto", "rl", "reward", "groups"]
Layout = Literal["prompt_completion", "messages", "text"]
Pairs = Literal["both", "revision", "final"]
DedupText = Literal["prompt", "response", "both"]

# Formats with a row for each prompt, from all its responses.
BY_PROMPT: tuple[Format, ...] = ("rl", "reward", "groups")
# Formats whose responses a student learns to write, up to the stop token.
TRAINED: tuple[Format, ...] = ("sft", "tokens", "preference", "kto", "reward")


@dataclass(frozen=True)
class NearDuplicates:
    """Leaves out rows that are nearly equal to an earlier one, by MinHash of word shingles.

    Attributes:
        threshold: The Jaccard similarity from which two rows are duplicates, estimated; null: no
            row is left out.
        text: What is compared: the `prompt`, the `response`, or `both`.
        shingle (words): Words of a shingle.
        permutations: Hash functions of MinHash; more estimate better.
    """

    threshold: float | None = None
    text: DedupText = "both"
    shingle: int = 3
    permutations: int = 128

    def __post_init__(self) -> None:
        value = self.threshold
        check(
            value is None or 0 < value <= 1,
            f"filters.near_duplicates.threshold must be above 0 and at most 1, got {value}",
        )
        shingle, count = self.shingle, self.permutations
        check(shingle >= 1, f"filters.near_duplicates.shingle must be at least 1, got {shingle}")
        check(
            count >= 16,
            f"filters.near_duplicates.permutations must be at least 16, got {count}",
        )


@dataclass(frozen=True)
class Decontamination:
    """Leaves out rows whose prompt or response shares a run of words with a benchmark.

    Attributes:
        benchmarks: Files of the benchmarks' rows, in any format that prompts may have, or datasets.
        columns: Columns of the benchmarks whose texts count, where a benchmark has them.
        words (words): Length of a shared run. A shorter benchmark text must be a row's whole prompt
            or response.
    """

    benchmarks: tuple[str, ...] = ()
    columns: tuple[str, ...] = (
        *("prompt", "problem", "question", "messages", "instruction", "text", "solution"),
    )
    words: int = 8

    def __post_init__(self) -> None:
        words = self.words
        check(words >= 1, f"filters.decontamination.words must be at least 1, got {words}")


@dataclass(frozen=True)
class Filters:
    """Which traces are exported. They apply in this order, and a trace is counted with the first
    one that drops it. What a format cannot use, such as responses that were cut by length, is
    dropped after the pass rates.

    Attributes:
        min_pass_rate: Keeps prompts of whose graded responses at least this fraction is right;
            null: all.
        max_pass_rate: Keeps prompts of whose graded responses at most this fraction is right; null:
            all.
        verified: Keeps traces whose answer is right, by the verifier.
        min_reward: Keeps traces whose reward, the judge's, is at least this; null: all.
        min_gain: Keeps traces whose reward exceeds that of their first response by at least this;
            null: all.
        changed: Keeps traces whose response differs from their first response.
        min_tokens (tokens): Keeps responses of at least this length; null: all.
        max_tokens (tokens): Keeps responses of at most this length; null: all.
        best_of_samples (responses): Keeps this many responses to each prompt, those with the
            highest reward; null: all.
        decontamination: Leaves out what benchmarks hold.
        near_duplicates: Leaves out what is nearly equal to an earlier row.
        top_fraction: Keeps this fraction of the rows that are left, those with the highest reward;
            null: all.
    """

    min_pass_rate: float | None = None
    max_pass_rate: float | None = None
    verified: bool = False
    min_reward: float | None = None
    min_gain: float | None = None
    changed: bool = False
    min_tokens: int | None = None
    max_tokens: int | None = None
    best_of_samples: int | None = None
    decontamination: Decontamination = field(default_factory=Decontamination)
    near_duplicates: NearDuplicates = field(default_factory=NearDuplicates)
    top_fraction: float | None = None

    def __post_init__(self) -> None:
        for name in ("min_pass_rate", "max_pass_rate"):
            value = getattr(self, name)
            check(
                value is None or 0 <= value <= 1,
                f"filters.{name} must be at least 0 and at most 1, got {value}",
            )
        low, high = self.min_pass_rate, self.max_pass_rate
        check(
            low is None or high is None or low <= high,
            f"filters.min_pass_rate {low} is above filters.max_pass_rate {high}",
        )
        short, long = self.min_tokens, self.max_tokens
        check(
            short is None or long is None or short <= long,
            f"filters.min_tokens {short} is above filters.max_tokens {long}",
        )
        best, top = self.best_of_samples, self.top_fraction
        check(best is None or best >= 1, f"filters.best_of_samples must be at least 1, got {best}")
        check(
            top is None or 0 < top <= 1,
            f"filters.top_fraction must be above 0 and at most 1, got {top}",
        )


@dataclass(frozen=True)
class Split:
    """Held-out prompts: the split `test`.

    Attributes:
        held_out: The fraction of prompts that are held out; all responses to a prompt are in one
            split.
        seed: Chooses the prompts.
    """

    held_out: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        share = self.held_out
        check(0 <= share < 1, f"split.held_out must be at least 0 and below 1, got {share}")


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer of the student, with its chat template.

    Attributes:
        path: A model folder or hub id; null: the LM that made the first run folder.
        revision: Branch, tag or commit of a hub model.
    """

    path: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Card:
    """What the card says beside the facts of the export.

    Attributes:
        title: The heading; null: the name of the folder.
        license: The license of the dataset, as the hub knows it.
        language: Language codes of the texts.
        source_licenses: Licenses of the prompts, of the models, or of both, as texts.
        rows (rows): Rows that the card shows.
    """

    title: str | None = None
    license: str | None = None
    language: tuple[str, ...] = ()
    source_licenses: tuple[str, ...] = ()
    rows: int = 2


@dataclass(frozen=True)
class ExportConfig:
    """The settings of `nabla export`: traces as a dataset folder.

    Attributes:
        run_dir: Run folders of `nabla generate`: paths or URIs.
        out: The dataset folder: a path or URI.
        format: What a row is: see pipeline/export/README.md.
        layout: The columns of format `sft`.
        pairs: Of format `preference`: accepted revisions (`revision`), last response against first
            (`final`), or `both`.
        max_pairs (pairs): Of format `reward`: pairs of a prompt, at most.
        allow_partial: Also takes run folders that are not complete: their committed rows.
        filters: Which traces are exported.
        split: Held-out prompts.
        tokenizer: The tokenizer of the student.
        card: What the card says beside the facts.
        rows_per_file (traces): Traces, or prompts, of a Parquet file.
        lease_seconds (s): Another export may take over the folder after this time without a sign of
            this one.
    """

    run_dir: tuple[str, ...]
    # A folder can be moved: its rows are recognised by their checksums.
    out: str = field(default="runs/export", metadata=NOT_SHAPING)
    format: Format = "sft"
    layout: Layout = "prompt_completion"
    pairs: Pairs = "both"
    max_pairs: int = 4
    allow_partial: bool = False
    filters: Filters = field(default_factory=Filters)
    split: Split = field(default_factory=Split)
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    card: Card = field(default_factory=Card, metadata=NOT_SHAPING)
    rows_per_file: int = 50_000
    lease_seconds: float = field(default=30.0, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        check(bool(self.run_dir), "run_dir: name at least one run folder of nabla generate")
        for name in ("max_pairs", "rows_per_file"):
            value = getattr(self, name)
            check(value >= 1, f"{name} must be at least 1, got {value}")
        check(self.lease_seconds > 0, f"lease_seconds must be above 0, got {self.lease_seconds}")
        check(
            not (self.filters.verified and self.format in ("kto", "reward", "rl")),
            f"filters.verified leaves no wrong response, which format={self.format} needs",
        )
