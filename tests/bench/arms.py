"""Arms: decoding methods that a bench runs over the same prompts and compares."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import torch
import transformers

from nabla_core import (
    DTO,
    BestOfN,
    Decoding,
    Majority,
    NablaConfig,
    Prompt,
    Ranked,
    Reward,
    Runtime,
    Sampling,
    Select,
    drive,
    flow,
    load_engines,
)
from nabla_core.embedded import task
from nabla_core.embedded.task import Grade
from nabla_core.engines.base import Engines
from nabla_core.judge_training.evaluation import JudgedAnswer, auc
from nabla_core.model_config import LM
from nabla_core.requests import Flow
from nabla_core.types import Cost
from pipeline.intervals import normal
from tests.bench.variants import Order, search

# A response of eight steps has 16 tokens. A few more let a response without an end hit the limit.
MAX_TOKENS = 20
GREEDY = Sampling(temperature=0)
UNCERTAIN = Select(confidence_threshold=0.98)


@dataclass(frozen=True)
class Arm:
    """A method to measure. `judge` and `guide` name the folders of the two models; guide None: the
    judge plays both roles. `seeds` are seeds of draws. `null` marks a search without a guide.
    `order` is one of the variants of tests.bench.variants, which are not in the product."""

    name: str
    decoding: Decoding
    judge: str = "judge"
    guide: str | None = None
    seeds: tuple[int, ...] = (0,)
    null: bool = False
    order: Callable[[Engines, NablaConfig], Order] | None = None


@dataclass
class ArmResult:
    """Measurements of one arm: accuracy and trace accuracy of each prompt (mean over seeds), mean
    cost per prompt, wall seconds per 1,000 prompts, proposals accepted and made per prompt.
    `auc` is that of the judge's rewards of the final responses as a score of right answers, None
    where it is not defined."""

    arm: Arm
    answer: list[float]
    trace: list[float]
    cost: Cost
    seconds: float
    accepted: float
    proposed: float
    auc: float | None = None


@dataclass
class Interval:
    """A mean with its 95 % normal interval over prompts."""

    mean: float
    half: float = field(default=0.0)

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        return cls(*normal(values))

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"

    def triple(self) -> list[float]:
        """[mean, low, high], rounded for a report."""
        return [round(v, 4) for v in (self.mean, self.mean - self.half, self.mean + self.half)]


def paired(a: ArmResult, b: ArmResult) -> Interval:
    """Accuracy of a minus accuracy of b, paired by prompt."""
    return Interval.of([x - y for x, y in zip(a.answer, b.answer, strict=True)])


def engines_for(arm: Arm, folder: Callable[[str], str], batch: int) -> Engines:
    """Load the models of an arm. `folder` maps a role to a path."""
    judge = folder(arm.judge)
    guide = folder(arm.guide) if arm.guide and arm.guide != arm.judge else None
    return load_engines(LM(folder("lm")), Reward(judge, guide=guide), Runtime(max_batch=batch))


def run(
    arm: Arm,
    prompts: Sequence[Prompt],
    engines: Engines,
    *,
    batch: int,
    grade: Callable[[str, str], Grade] = task.grade,
) -> ArmResult:
    """Run every prompt under every seed of the arm, in one stream of batches."""
    answer, trace = [0.0] * len(prompts), [0.0] * len(prompts)
    index = {p.id: i for i, p in enumerate(prompts)}
    cost, accepted, proposed = Cost(), 0, 0
    judged: list[JudgedAnswer] = []
    started = time.perf_counter()
    flows = (_flow(arm, p, s, engines) for s in arm.seeds for p in prompts)
    for done in drive(flows, engines, in_flight=3 * batch):
        marks = grade(done.prompt_text, done.text)
        answer[index[done.prompt_id]] += marks.answer / len(arm.seeds)
        trace[index[done.prompt_id]] += marks.trace / len(arm.seeds)
        cost += done.cost
        if done.reward is not None:
            judged.append(JudgedAnswer(done.prompt_id, done.reward, marks.answer))
        proposed += len(done.revisions)
        accepted += sum(r.accepted for r in done.revisions)
    runs = len(prompts) * len(arm.seeds)
    seconds = (time.perf_counter() - started) / runs * 1000
    return ArmResult(
        arm,
        answer,
        trace,
        _per(cost, runs),
        seconds,
        accepted / runs,
        proposed / runs,
        auc(judged),
    )


def _flow(arm: Arm, prompt: Prompt, seed: int, engines: Engines) -> Flow:
    if arm.order is None:
        return flow(prompt, arm.decoding, seed=seed)
    config = arm.decoding.nabla
    order = arm.order(engines, config)
    return search(prompt, config, order, seed=seed, max_tokens=arm.decoding.max_tokens)


def nabla_arm(**changes: Any) -> Decoding:
    """Left-to-right search with the settings that work on the embedded task, and `changes`."""
    config = NablaConfig(
        rollout=GREEDY, resample=GREEDY, select=UNCERTAIN, dto=DTO(learning_rate=0.3)
    )
    return Decoding("nabla", MAX_TOKENS, nabla=replace(config, **changes))


def ranked_arm(
    beta: float | None,
    min_score: float,
    reward_weight: float,
    *,
    nucleus: float = 1.0,
    **changes: Any,
) -> Decoding:
    """Ranked mirror proposals."""
    ranked = Ranked(beta, min_score, nucleus, reward_weight)
    return nabla_arm(proposals="ranked", ranked=ranked, **changes)


def best_of(n: int) -> Decoding:
    """Best of n at temperature .7."""
    return Decoding("best_of_n", MAX_TOKENS, best_of_n=BestOfN(n, Sampling(temperature=0.7)))


def guided_arm(beta: float, *, temperature: float = 0.0) -> Decoding:
    """One response, guided token by token."""
    return Decoding("guided", MAX_TOKENS, guided=Sampling(temperature, beta=beta))


def guided_best_of(n: int, beta: float) -> Decoding:
    """Best of n draws from the guided law."""
    settings = BestOfN(n, Sampling(temperature=1.0, beta=beta))
    return Decoding("best_of_n", MAX_TOKENS, best_of_n=settings)


def majority_of(n: int) -> Decoding:
    """Majority of n at temperature .7."""
    return Decoding("majority", MAX_TOKENS, majority=Majority(n, Sampling(temperature=0.7)))


def print_table(results: Sequence[ArmResult], *, header: bool = True) -> None:
    """Print one row per arm."""
    if header:
        print(
            f"{'arm':44}{'accuracy':>15}{'trace':>15}{'rollouts':>9}{'tokens':>8}{'LM f':>6}"
            f"{'LM b':>6}{'RM f':>6}{'RM b':>6}{'calls':>7}{'MFLOP':>7}{'s/1000':>8}{'AUC':>6}"
        )
    for o in results:
        c = o.cost
        print(
            f"{o.arm.name:44}{Interval.of(o.answer)!s:>15}{Interval.of(o.trace)!s:>15}"
            f"{c.rollouts:9.1f}{c.generated_tokens:8.1f}{c.lm_forward:6.1f}{c.lm_backward:6.1f}"
            f"{c.rm_forward:6.1f}{c.rm_backward:6.1f}{c.paper_calls:7.1f}{c.flops / 1e6:7.0f}"
            f"{o.seconds:8.2f}{'' if o.auc is None else f'{o.auc:6.3f}'}",
            flush=True,
        )


def quiet() -> None:
    """Use one thread, since models this small gain nothing from two, and show no progress bars."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


def _per(cost: Cost, runs: int) -> Cost:
    return Cost(*(value / runs for value in astuple(cost)))
