"""The parts of `tests.bench.real_cost` on an LM: greedy decoding, sweeps, counterfactuals."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from nabla_core import NablaConfig, drive
from nabla_core.methods.counterfactuals import Explore, explore
from nabla_core.requests import Context, Response, Score, Sweep
from tests.bench.arms import GREEDY
from tests.bench.real_cost import models as real_models
from tests.bench.real_cost.models import Models
from tests.bench.real_cost.rollouts import RolloutsAndGenerate
from tests.bench.real_cost.timing import Plan, Row, compared, row, seconds, spread_of


def greedy(models: Models, plan: Plan) -> Iterator[Row]:
    """Four requests for each row of the batch (two at 32), with limits of an eighth of `limit` to
    all of it: transformers.generate pads a batch to its longest."""
    for batch in plan.batches:
        both = RolloutsAndGenerate.of(models, batch, batch * (2 if batch > 8 else 4), plan.limit)
        found = compared(both.rollouts, both.generate, plan)
        mine, plain = sum(map(len, both.mine)), sum(map(len, both.plain))
        # Tokens a second: the more the better.
        ratios = tuple(mine / plain / ratio for ratio in found.ratios)
        yield Row(
            f"greedy batch {batch}",
            statistics.median(ratios),
            {
                "spread": spread_of(ratios),
                "ours": f"{mine / found.mine:.3g} tok/s",
                "plain": f"{plain / found.other:.3g} tok/s",
                "tokens": mine,
                "equal": f"{sum(map(operator.eq, both.mine, both.plain))} of {len(both.mine)}",
            },
        )


def sweep(models: Models, plan: Plan) -> Iterator[Row]:
    """Responses of random tokens. Plain: the log-likelihood and the reward, each with its gradient
    with respect to the input embeddings, in one padded batch of equal lengths."""
    length, config = 2 * plan.limit, NablaConfig(proposals="ranked")
    generator = torch.Generator().manual_seed(0)
    size = models.lm.vocabulary - 2
    ids = torch.randint(3, size, (plan.prompts, plan.limit + length), generator=generator)
    requests = []
    for drawn in ids.tolist():
        frame = (tuple(drawn[: plan.limit]), ())
        response = Response(tuple(drawn[plan.limit :]), "length")
        requests.append(Sweep(Context("", frame[0], frame, frame), response, 0, config))
    engine: Any = models.engines(max_batch=plan.prompts, device=plan.device).serving(Sweep)
    ids = ids.to(models.lm.device)

    def plain() -> None:
        embeddings = models.plain_lm.get_input_embeddings()(ids).requires_grad_()
        logits = models.plain_lm(inputs_embeds=embeddings[:, :-1]).logits[:, plan.limit - 1 :]
        log_p = torch.log_softmax(logits.float(), -1)
        total = log_p.gather(-1, ids[:, plan.limit :, None]).sum()
        torch.autograd.grad(total, embeddings)
        embeddings = models.plain_rm.get_input_embeddings()(ids).requires_grad_()
        hidden = models.plain_rm.base_model(inputs_embeds=embeddings).last_hidden_state[:, -1]
        torch.autograd.grad(models.plain_rm.score(hidden).sum(), embeddings)

    def ours() -> None:
        for result in engine.answer(requests):
            if isinstance(result, Exception):
                raise result

    yield row("sweep", compared(ours, plain, plan), responses=plan.prompts, tokens=length)


def judge(models: Models, plan: Plan) -> Iterator[Row]:
    """Responses of random tokens and of several lengths, each judged by itself
    (`runtime.score_alone`), over one batch of them; and how far their rewards are apart, in
    standard deviations of the rewards."""
    count, generator = 2 * plan.prompts, torch.Generator().manual_seed(0)
    requests = []
    for number in range(count):
        length = plan.limit * (4 + number) // count + plan.limit
        drawn = torch.randint(3, models.lm.vocabulary - 2, (length,), generator=generator).tolist()
        frame = (tuple(drawn[: plan.limit]), ())
        requests.append(Score(Context("", frame[0], frame, frame), tuple(drawn[plan.limit :])))
    rewards: dict[bool, list[float]] = {}

    def judged(alone: bool) -> None:
        runtime = {"max_batch": count, "device": plan.device, "score_alone": alone}
        engine: Any = models.engines(**runtime).serving(Score)
        for number, request in enumerate(requests):
            engine.submit(number, request)
        found: dict[int, float] = {}
        while engine.waiting:
            found |= {number: reply.value.reward for number, reply in engine.step()}
        rewards[alone] = [found[number] for number in range(count)]

    found = compared(partial(judged, True), partial(judged, False), plan)
    apart = max(abs(a - b) for a, b in zip(rewards[True], rewards[False], strict=True))
    details = {"responses": count, "apart": f"{apart / statistics.pstdev(rewards[True]):.2g} sd"}
    yield row("judging alone", found, **details)


def counterfactuals(models: Models, plan: Plan) -> Iterator[Row]:
    """`plan.prompts` responses, two positions of each, with six tokens."""
    engines = models.engines(device=plan.device)
    settings = Explore(temperatures=(0.0,), positions=2, alternatives=6, tail=GREEDY)

    def work() -> int:
        flows: Any = (
            explore(p, settings, lambda *_: None, max_tokens=plan.limit)
            for p in real_models.prompts(plan.prompts)
        )
        made: list[Any] = list(drive(flows, engines))
        return sum(len(place.tokens) for e in made for place in e.places)

    measured = [seconds(work, plan.device) for _ in range(plan.rounds)]
    rates = tuple(tails / spent for spent, tails in measured)
    details = {"spread": spread_of(rates), "unit": "tails/s", "tails": measured[0][1]}
    yield Row("counterfactuals", statistics.median(rates), details)
