"""What the data sets are made of. Each source is generated once and kept in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from nabla_core import Prompt, Sampling, drive, flow, load_engines
from nabla_core.config import Decoding, Majority
from nabla_core.draws import DrawKey
from nabla_core.embedded import task
from nabla_core.embedded.tokenizer import STOP_ID, decode
from nabla_core.engines.base import Engines
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.engines.text import TextEngine
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.models.loading import load_language_model
from nabla_core.requests import Render, RequestGenerator, Rollout, Score, ask, ask_all
from nabla_core.types import Cost, Trace
from tests.bench.arms import MAX_TOKENS, ranked_arm

SAMPLES = 8
# For pass@k: as many as cost what a search costs, and a few more.
PLAIN_PROMPTS, PLAIN_SAMPLES = 2000, 20
SAMPLING = Sampling(temperature=0.7)
# One response each, and no judge.
GUIDED = Decoding("majority", MAX_TOKENS, majority=Majority(1, Sampling(temperature=0, beta=0.25)))
SEARCH = ranked_arm(1.0, -3.0, 2.0)
NULL = ranked_arm(None, -4.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A response to a prompt. `base`: the tokens of the greedy response; `reward` and
    `base_reward`: the judge's, None where it was not asked; `hard`: the greedy answer is wrong."""

    id: str
    prompt: str
    tokens: list[int]
    correct: bool
    reward: float | None
    base: list[int] | None = None
    base_reward: float | None = None

    @property
    def stops(self) -> bool:
        return self.tokens[-1] == STOP_ID

    @property
    def hard(self) -> bool:
        assert self.base is not None
        return not right(self.prompt, self.base)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows, and what they took: FLOPs and seconds of all, `prompts` of them."""

    rows: list[Row]
    prompts: int
    flops: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SampledPrompt:
    """All samples of a prompt."""

    prompt_id: str
    prompt: str
    tokens: tuple[tuple[int, ...], ...]
    rewards: tuple[float | None, ...]
    cost: Cost = field(default_factory=Cost)


def right(prompt: str, tokens: Sequence[int]) -> bool:
    """Whether the last digit is right."""
    return task.grade(prompt, decode(tokens)).answer


def sources(folder: Path, models: Path, prompts: Sequence[Prompt], batch: int) -> dict[str, Source]:
    """Every source by name, from its file if it is there."""

    def lm() -> str:
        return str(models / "lm")

    makers: dict[str, Callable[[], Source]] = {
        "search": lambda: _traces(models, prompts, SEARCH, batch, guide="head"),
        "null": lambda: _traces(models, prompts, NULL, batch),
        "samples": lambda: _samples(models, prompts, batch),
        "plain": lambda: _plain(lm(), prompts[:PLAIN_PROMPTS], batch),
        "guided": lambda: _guided(models, prompts, batch),
    }
    return {name: _kept(folder / f"{name}.json", make) for name, make in makers.items()}


def _kept(path: Path, make: Callable[[], Source]) -> Source:
    if not path.exists():
        print(f"generating {path.stem}", flush=True)
        source = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(source)))
        temporary.rename(path)
    kept = json.loads(path.read_text())
    return Source(**{**kept, "rows": [Row(**row) for row in kept["rows"]]})


def _traces(
    models: Path,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    batch: int,
    guide: str | None = None,
) -> Source:
    reward = Reward(str(models / "judge"), guide=str(models / guide) if guide else None)
    engines = load_engines(LM(str(models / "lm")), reward, Runtime(max_batch=batch))
    started = time.perf_counter()
    flows = (flow(p, decoding) for p in prompts)
    traces: Iterable[Trace] = drive(flows, engines, in_flight=3 * batch)
    rows, flops = [], 0.0
    for t in traces:
        flops += t.cost.flops
        rows.append(
            Row(
                id=t.prompt_id,
                prompt=t.prompt_text,
                tokens=list(t.tokens),
                correct=right(t.prompt_text, t.tokens),
                reward=t.reward,
                base=list(t.base_tokens),
                base_reward=t.base_reward,
            )
        )
    seconds = time.perf_counter() - started
    return Source(rows=_ordered(rows, prompts), prompts=len(prompts), flops=flops, seconds=seconds)


def _plain(lm: str, prompts: Sequence[Prompt], batch: int) -> Source:
    """Samples that no judge reads: those of `_samples`, and more."""
    model = load_language_model(lm, revision=None, device=torch.device("cpu"), dtype=torch.float32)
    engines = Engines(TextEngine(model, model, model), RolloutEngine(model, batch, 1 << 16))
    return _sampled_source(engines, prompts, batch, count=PLAIN_SAMPLES, judged=False)


def _samples(models: Path, prompts: Sequence[Prompt], batch: int) -> Source:
    reward = Reward(str(models / "judge"))
    engines = load_engines(LM(str(models / "lm")), reward, Runtime(max_batch=batch))
    return _sampled_source(engines, prompts, batch, count=SAMPLES, judged=True)


def _sampled_source(
    engines: Engines, prompts: Sequence[Prompt], batch: int, *, count: int, judged: bool
) -> Source:
    started = time.perf_counter()
    rows, flops = [], 0.0
    flows = (_sampled(p, count, judged) for p in prompts)
    for sampled in drive(flows, engines, in_flight=batch // 2):
        flops += sampled.cost.flops
        for tokens, value in zip(sampled.tokens, sampled.rewards, strict=True):
            rows.append(
                Row(
                    id=sampled.prompt_id,
                    prompt=sampled.prompt,
                    tokens=list(tokens),
                    correct=right(sampled.prompt, tokens),
                    reward=value,
                )
            )
    seconds = time.perf_counter() - started
    return Source(rows=_ordered(rows, prompts), prompts=len(prompts), flops=flops, seconds=seconds)


def _sampled(prompt: Prompt, count: int, judged: bool) -> RequestGenerator[SampledPrompt]:
    """The samples of best of n, all of them."""
    context = yield from ask(Render(prompt))
    keys = [DrawKey(0, prompt.id, prompt.sample, f"rollout {k}") for k in range(count)]
    responses = yield from ask_all([Rollout(context, (), MAX_TOKENS, SAMPLING, k) for k in keys])
    rewards: list[float | None] = [None] * count
    if judged:
        verdicts = yield from ask_all([Score(context, r.tokens) for r in responses])
        rewards = [verdict.reward for verdict in verdicts]
    return SampledPrompt(
        prompt_id=prompt.id,
        prompt=context.text,
        tokens=tuple(r.tokens for r in responses),
        rewards=tuple(rewards),
    )


def _guided(models: Path, prompts: Sequence[Prompt], batch: int) -> Source:
    """Guided responses. No judge reads them, and no base response is made."""
    source = _traces(models, prompts, GUIDED, batch, guide="head")
    return replace(source, rows=[replace(row, base=None) for row in source.rows])


def _ordered(rows: list[Row], prompts: Sequence[Prompt]) -> list[Row]:
    """In the order of the prompts: traces come as they finish."""
    place = {p.id: n for n, p in enumerate(prompts)}
    return sorted(rows, key=lambda row: place[row.id])
