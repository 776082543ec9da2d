"""What the product adds to the models, on a real LM: each part over the plain code that does its
work, in one run.

    taskset -c 0 python -m tests.bench.real_cost [--models smollm2 random] [--only draw greedy ...]
        [--dtype bfloat16] [--device cpu] [--rounds 3] [--batches 1 8 32]
        [--output results.json] [--rehearse]

    draw             tokens drawn at temperature .6 and top-p .95, and greedily, over a softmax of
                     the logits; `flat` are logits of random weights, of which thousands are likely
    attention        of one layer and token, over transformers' with its copies of keys and values
    greedy           tokens a second, over transformers.generate in batches of as many prompts
    guided           rollouts that a head guides, over the forward passes of LM and head alone; that
                     a value head guides, over greedy rollouts
    sweep            a sweep with a gradient guide, over a plain forward and backward pass of both
                     models
    judge            responses judged each by itself (runtime.score_alone), over one batch of them
    counterfactuals  tails a second
    pairs            replacements whose score is above a bound, by likelihood alone
    betas            of the shipped head, by the divergence from the LM
    search           the share of each part in a ranked search, and where Python's time goes
    start            seconds of a dry run, and of a process that loads the models
    embedded         the default search on the embedded models, over its matrix products

The two sides of a ratio take turns; the median of the rounds' ratios is shown, and the smallest and
the largest. Seconds are those of the process's CPU time on one thread of torch, or the wall's on a
GPU: other work on the machine counts less. On a CPU pin the process to one core. Each part can run
alone, and its rows are printed as they are measured. `--rehearse` runs every part with tiny random
models; its figures mean nothing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.bench.arms import quiet
from tests.bench.real_cost import models as real_models
from tests.bench.real_cost.alone import attention, drawing, embedded, starting
from tests.bench.real_cost.guided import guided
from tests.bench.real_cost.models import Models
from tests.bench.real_cost.parts import counterfactuals, greedy, judge, sweep
from tests.bench.real_cost.profile import search_profile
from tests.bench.real_cost.settings import betas, pairs
from tests.bench.real_cost.timing import Plan, Row

AIMS = {
    "draw V=49152": 3.0,
    "draw V=151936": 3.0,
    "draw V=49152 flat": 3.0,
    "draw V=151936 flat": 3.0,
    # At least: the others are at most.
    "greedy batch 1": 1.0,
    "greedy batch 8": 1.2,
    "greedy batch 32": 1.3,
    **{f"guided batch {batch}": 1.1 for batch in (1, 8, 32)},
    **{f"value head batch {batch}": 1.15 for batch in (1, 8, 32)},
    "sweep": 1.2,
    "embedded": 5.0,
}

ALONE: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "draw": drawing,
    "attention": attention,
    "betas": betas,
    "embedded": embedded,
    "start": starting,
}
PARTS: dict[str, Callable[[Models, Plan], Iterator[Row]]] = {
    "greedy": greedy,
    "guided": guided,
    "sweep": sweep,
    "judge": judge,
    "pairs": pairs,
    "counterfactuals": counterfactuals,
    "search": search_profile,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.real_cost")
    parser.add_argument("--models", nargs="+", default=["smollm2", "random"])
    parts = [*PARTS, *ALONE]
    parser.add_argument("--only", nargs="+", default=parts, choices=parts, metavar="PART")
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
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }
    print(f"{'models':17}{'part':22}{'measured':>10}{'aim':>6}  with", flush=True)
    for part in (part for part in options.only if part in ALONE):
        report[part] = show("-", ALONE[part](plan))
    with_models = [part for part in options.only if part in PARTS]
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


def show(models: str, rows: Iterable[Row]) -> dict[str, Any]:
    """Print each row as soon as it is measured and return them as they go into the JSON line."""
    shown = {}
    for found in rows:
        aim = AIMS.get(found.name)
        said = ", ".join(f"{key} {value}" for key, value in found.details.items())
        print(
            f"{models:17}{found.name:22}{found.figure:10.3g}"
            f"{'' if aim is None else f'{aim:.2f}':>6}  {said}",
            flush=True,
        )
        shown[found.name] = {"figure": found.figure, **found.details}
    return shown


if __name__ == "__main__":
    main()
