"""What the product adds to the models, on a real LM: each part over the plain code that does its
work, in one run.

    python -m tests.bench.real_cost [--models smollm2 random] [--parts draw greedy ...]
        [--dtype bfloat16] [--device cpu] [--rounds 3] [--batches 1 8 32]
        [--output results.json] [--rehearse]

    draw             tokens drawn at temperature .6 and top-p .95, over a softmax of the logits
    greedy           tokens a second, over transformers.generate in batches of as many prompts
    sweep            a sweep with a gradient guide, over a plain forward and backward pass of both
                     models
    counterfactuals  tails a second
    search           the share of each part in a ranked search, and where Python's time goes
    start            seconds of a dry run, and of a process that loads the models
    embedded         the default search on the embedded models, over its matrix products

The two sides of a ratio take turns, and the median over the rounds is shown. Seconds are those of
the process's CPU time on one thread, or the wall's on a GPU: other work on the machine counts less.
`--rehearse` runs every part with tiny random models; its figures mean nothing. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nabla_core import (
    NablaConfig,
    Reward,
    Runtime,
    Sampling,
    drive,
    flow,
    load_engines,
)
from nabla_core.embedded import task
from nabla_core.methods.counterfactuals import Explore, explore
from nabla_core.requests import Context, Response, Sweep
from nabla_core.sampling import draw
from tests.bench.arms import GREEDY, quiet, ranked_arm
from tests.bench.real_cost import models as real_models
from tests.bench.real_cost.models import Models
from tests.bench.real_cost.profile import search_profile
from tests.bench.real_cost.rollouts import RolloutsAndGenerate
from tests.bench.real_cost.timing import Plan, over, row, seconds

AIMS = {
    "draw V=49152": 3.0,
    "draw V=151936": 3.0,
    "greedy batch 1": 1.0,
    "greedy batch 8": 1.2,
    "greedy batch 32": 1.3,
    "sweep": 1.2,
    "embedded": 5.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.real_cost")
    parser.add_argument("--models", nargs="+", default=["smollm2", "random"])
    parser.add_argument("--parts", nargs="+", default=[*PARTS, *ALONE])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    quiet()
    plan = Plan(
        options.device, getattr(torch, options.dtype), options.rounds, tuple(options.batches)
    )
    if options.rehearse:
        plan = replace(plan, dtype=torch.float32, rounds=1, batches=(1, 2), limit=4, prompts=1)
    report: dict[str, Any] = {
        "torch": torch.__version__,
        "dtype": str(plan.dtype),
        "device": options.device,
        "load_average": os.getloadavg()[0],
    }
    print(f"{'models':17}{'part':22}{'measured':>10}{'aim':>6}  with", flush=True)
    for part in (part for part in options.parts if part in ALONE):
        report[part] = show("-", ALONE[part](plan))
    with_models = [part for part in options.parts if part in PARTS]
    for name in ["rehearsal"] if options.rehearse else options.models if with_models else ():
        models = _load(name, plan)
        for part in with_models:
            report[f"{name}: {part}"] = show(models.name, PARTS[part](models, plan))
    line = json.dumps(report)
    if options.output:
        options.output.write_text(line + "\n")
    print(line)


def _load(name: str, plan: Plan) -> Models:
    match name:
        case "smollm2":
            return real_models.smollm2(plan.device, plan.dtype)
        case "rehearsal":
            return real_models.random_weights(plan.device, plan.dtype, real_models.TINY)
    return real_models.random_weights(plan.device, plan.dtype)


def show(models: str, rows: dict[str, Any]) -> dict[str, Any]:
    """Print rows `name: (figure, details)` and return them as they go into the JSON line."""
    for name, (figure, details) in rows.items():
        aim = AIMS.get(name)
        said = ", ".join(f"{key} {value}" for key, value in details.items())
        print(
            f"{models:17}{name:22}{figure:10.3g}{'' if aim is None else f'{aim:.1f}':>6}  {said}",
            flush=True,
        )
    return {name: {"figure": figure, **details} for name, (figure, details) in rows.items()}


# Parts without a model -------------------------------------------------------------------


def drawing(plan: Plan) -> dict[str, Any]:
    """64 rows of logits with a few likely tokens, as an LM's."""
    rows = {}
    for size in (49_152, 151_936):
        generator = torch.Generator().manual_seed(0)
        logits = (4 * torch.randn(64, size, generator=generator)).to(plan.device)
        uniforms = torch.rand(64, dtype=torch.float64, generator=generator).to(plan.device)
        plain = partial(torch.softmax, logits, -1)
        for name, sampling in (("", Sampling(0.6, 0.95)), (" greedy", GREEDY)):
            ours = partial(draw, logits, sampling, uniforms)
            rows[f"draw V={size}{name}"] = row(*over(ours, plain, plan))
    return rows


def starting(plan: Plan) -> dict[str, Any]:
    """Wall seconds: nothing else of a start is CPU time of this process."""
    load = (
        "from nabla_core import *; from nabla_core.model_config import LM; "
        "load_engines(LM('embedded'), Reward('embedded', guide='embedded'))"
    )
    with tempfile.TemporaryDirectory() as folder:
        config = Path(__file__).resolve().parents[3] / "configs" / "embedded.yaml"
        dry = ["-m", "jobs.generate", "--config", str(config), "--dry-run", f"run_dir={folder}/run"]
        return {"dry run": _process(dry, plan), "actor's models": _process(["-c", load], plan)}


def _process(arguments: Sequence[str], plan: Plan) -> tuple[float, dict[str, Any]]:
    times = []
    for _ in range(plan.rounds):
        before = os.times()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = os.times()
        cpu = sum(after[2:4]) - sum(before[2:4])
        times.append((cpu, after.elapsed - before.elapsed))
    cpu, wall = (statistics.median(column) for column in zip(*times, strict=True))
    return cpu, {"unit": "CPU s", "wall": f"{wall:.3g} s"}


def embedded(plan: Plan) -> dict[str, Any]:
    """The default search on the embedded models, over the time of its matrix products alone."""
    engines = load_engines(reward=Reward("embedded", guide="embedded"), runtime=Runtime())
    prompts = task.prompts(16 if plan.rounds == 1 else 96, seed=0, split="validation")
    arm = ranked_arm(1.0, -3.0, 2.0)
    # The embedded models' own width; a larger product would run at a higher rate.
    a, b = torch.randn(512, 64), torch.randn(64, 128)
    cost = 0.0

    def search() -> None:
        nonlocal cost
        cost = sum(t.cost.flops for t in drive((flow(p, arm) for p in prompts), engines))

    repeats = 2000

    def products() -> None:
        for _ in range(repeats):
            a @ b

    mine, other = over(search, products, plan)
    floor = cost / (2 * 512 * 64 * 128 * repeats / other)
    return {"embedded": row(mine, floor, prompts=len(prompts))}


# Parts with models -----------------------------------------------------------------------


def greedy(models: Models, plan: Plan) -> dict[str, Any]:
    """Four requests for each row of the batch (two at 32), with limits of an eighth of `limit` to
    all of it: transformers.generate pads a batch to its longest."""
    rows = {}
    for batch in plan.batches:
        both = RolloutsAndGenerate.of(models, batch, batch * (2 if batch > 8 else 4), plan.limit)
        spent, other = over(both.rollouts, both.generate, plan)
        rate, plain = sum(map(len, both.mine)) / spent, sum(map(len, both.plain)) / other
        rows[f"greedy batch {batch}"] = (
            rate / plain,
            {
                "ours": f"{rate:.3g} tok/s",
                "plain": f"{plain:.3g} tok/s",
                "tokens": sum(map(len, both.mine)),
                "equal": f"{sum(map(operator.eq, both.mine, both.plain))} of {len(both.mine)}",
            },
        )
    return rows


def sweep(models: Models, plan: Plan) -> dict[str, Any]:
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

    return {"sweep": row(*over(ours, plain, plan), responses=plan.prompts, tokens=length)}


def counterfactuals(models: Models, plan: Plan) -> dict[str, Any]:
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

    spent, tails = seconds(work, plan.device)
    return {"counterfactuals": (tails / spent, {"unit": "tails/s", "tails": tails})}


ALONE: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "draw": drawing,
    "embedded": embedded,
    "start": starting,
}
PARTS: dict[str, Callable[[Models, Plan], dict[str, Any]]] = {
    "greedy": greedy,
    "sweep": sweep,
    "counterfactuals": counterfactuals,
    "search": search_profile,
}


if __name__ == "__main__":
    main()
