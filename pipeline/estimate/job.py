"""An estimate of a run, from its config alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.errors import ConfigError
from pipeline.estimate.config import EstimateConfig
from pipeline.preview.cards import CARDS, Card
from pipeline.preview.cost import Expected, of_decoding
from pipeline.preview.hours import seconds
from pipeline.preview.memory import Memory, memory
from pipeline.preview.models import Models
from pipeline.run.models import is_scripted

DEFAULT_PROMPTS = 1_000


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """What a run of `rows` rows takes: `expected` and `seconds` of a row, and the memory that a
    process holds, in `dtype`. `tokens` of prompt and response are assumed."""

    models: Models
    rows: int
    tokens: tuple[int, int]
    dtype: str
    expected: Expected
    memory: Memory
    card: Card
    share: float
    seconds: float

    @property
    def hours(self) -> float:
        """Of all rows on one card."""
        return self.rows * self.seconds / 3600


def estimate(config: EstimateConfig) -> Estimated:
    """Raises ConfigError where there is no model, ModelError where one is not known."""
    from pipeline.estimate.shapes import models_of  # noqa: PLC0415 - it imports torch

    if is_scripted(config.lm):
        raise ConfigError(f"lm.path={config.lm.path} is no model: it takes neither memory nor time")
    assumed = config.estimate
    prompts = assumed.prompts or config.prompts.limit or DEFAULT_PROMPTS
    length = assumed.response_tokens or config.decoding.max_tokens
    decoding = replace(config.decoding, max_tokens=length)
    models = models_of(config.lm, config.reward)
    # What `auto` is on this machine says nothing of the card.
    dtype = "bfloat16" if config.runtime.dtype == "auto" else config.runtime.dtype
    itemsize = 2 if dtype == "bfloat16" else 4
    prompt = assumed.prompt_tokens
    expected = of_decoding(decoding, models, prompt)
    rows = prompts * config.samples_per_prompt
    held = memory(
        decoding,
        models,
        config.runtime,
        in_flight=min(config.cluster.in_flight, rows),
        prompt=prompt,
        itemsize=itemsize,
    )
    card = _card(config)
    return Estimated(
        models=models,
        rows=rows,
        tokens=(prompt, length),
        dtype=dtype,
        expected=expected,
        memory=held,
        card=card,
        share=assumed.share,
        seconds=seconds(
            expected,
            decoding,
            models,
            held,
            card,
            share=assumed.share,
            prompt=prompt,
            itemsize=itemsize,
        ),
    )


def _card(config: EstimateConfig) -> Card:
    """The card, with the figures that the config sets."""
    assumed = config.estimate
    own = {
        "flops": (assumed.peak_tflops, 1e12),
        "bandwidth": (assumed.bandwidth_tbs, 1e12),
        "memory": (assumed.memory_gb, 1e9),
    }
    given = {name: value * unit for name, (value, unit) in own.items() if value is not None}
    known = CARDS.get(assumed.card)
    # The config has all three figures of a card that is not listed.
    figures = {name: given.get(name) or getattr(known, name) for name in own}
    return Card(name=assumed.card, **figures)
