"""Settings of `jobs.estimate`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.config import check
from nabla_core.config_metadata import NOT_SHAPING
from pipeline.generate.config import GenerateConfig
from pipeline.preview.cards import CARDS, DEFAULT_CARD, DEFAULT_SHARE


@dataclass(frozen=True)
class Assumed:
    """What an estimate assumes.

    Attributes:
        prompts (prompts): Prompts of the run; null: `prompts.limit`, or 1,000 where that is null.
        prompt_tokens (tokens): The mean length of a prompt in its template.
        response_tokens (tokens): The mean length of a response; null: `decoding.max_tokens`.
        card: The GPU: a10, l4, l40s, a100-40gb, a100, h100, h200, b200 or mi300x. For another one,
            set the three keys that follow.
        peak_tflops (TFLOP/s): What the card computes in bfloat16 by its data sheet; null: that of
            `card`.
        bandwidth_tbs (TB/s): The bandwidth of its memory; null: that of `card`.
        memory_gb (GB): The size of its memory; null: that of `card`.
        share: The share of both peaks that a run reaches. An assumption: it was not measured.
    """

    prompts: int | None = None
    prompt_tokens: int = 256
    response_tokens: int | None = None
    card: str = DEFAULT_CARD
    peak_tflops: float | None = None
    bandwidth_tbs: float | None = None
    memory_gb: float | None = None
    share: float = DEFAULT_SHARE

    def __post_init__(self) -> None:
        own = (self.peak_tflops, self.bandwidth_tbs, self.memory_gb)
        check(
            self.card in CARDS or None not in own,
            f"estimate.card={self.card} is none of {', '.join(CARDS)}: of another one set "
            "estimate.peak_tflops, estimate.bandwidth_tbs and estimate.memory_gb",
        )
        for name in ("prompts", "prompt_tokens", "response_tokens"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"estimate.{name} must be at least 1, got {value}")
        for name, value in zip(("peak_tflops", "bandwidth_tbs", "memory_gb"), own, strict=True):
            check(value is None or value > 0, f"estimate.{name} must be above 0, got {value}")
        check(0 < self.share <= 1, f"estimate.share must be in (0, 1], got {self.share}")


@dataclass(frozen=True)
class EstimateConfig(GenerateConfig):
    """The settings of `nabla estimate`: those of the run, as `nabla generate` takes them, and what
    is assumed.

    Attributes:
        estimate: What is assumed.
    """

    estimate: Assumed = field(default_factory=Assumed, metadata=NOT_SHAPING)
