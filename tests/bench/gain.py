"""Accuracy against cost of every decoding method on the embedded task.

    python -m tests.bench.gain [--prompts 2000] [--batch 256] [--figures DIR]
                               [--models DIR ...] [--guide gold] [--only TEXT ...]
                               [--split validation]

The bench decodes the same unseen prompts with every arm and prints one table row per arm.
Accuracy is the share of right last digits. Trace accuracy is the share of responses in which
every step is right. AUC is that of the judge's rewards of the final responses as a score of right
answers. Intervals are 95 % normal intervals over prompts. Arms that sample are averaged over three
seeds of draws (best of 32 and of 64, guided best of N: one seed). Differences between arms are
paired by prompt. Settings were chosen on validation prompts of the shipped models and are the same
for all models.

`--models` names folders that hold `lm` and `judge` each, one folder per training seed
(`python -m nabla_core.embedded.recipe.train --seed 1 --out DIR` makes them, with `aligned` and
`gold`); `head` and `guide` are made for those models by configs/train_head_embedded.yaml and
configs/train_guide_embedded.yaml. Without `--models` the shipped models are measured. An arm whose
models are missing is skipped. With `--guide gold` every arm with a gradient guide uses the
gold-aligned one.

`--split validation` decodes the prompts that settings are chosen on, in place of unseen ones.

`--figures DIR` stores the arms in DIR/gain.json and draws DIR/gain-light.svg and
DIR/gain-dark.svg from it. Arms that the file already has and that were not measured now are kept,
so that `--only` can measure in several runs. `python -m tests.bench.figure DIR` draws again
without measuring.

The last line is one JSON object: every arm, the figures of the default search and its differences
from guided decoding, the best null arm and best of 8; `by_models` holds the same for each folder
of `--models`.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from nabla_core import DTO, Prompt, Sampling
from nabla_core.config import Decoding
from nabla_core.embedded import task
from nabla_core.embedded.weights import ROOT
from tests.bench import figure
from tests.bench.arms import (
    MAX_TOKENS,
    Arm,
    ArmResult,
    Interval,
    best_of,
    engines_for,
    guided_arm,
    guided_best_of,
    majority_of,
    nabla_arm,
    paired,
    print_table,
    quiet,
    ranked_arm,
    run,
)
from tests.bench.variants import second_order, two_at_once

BETA, MIN_SCORE, REWARD_WEIGHT = 1.0, -3.0, 2.0
NULL_MIN_SCORE, NULL_REWARD_WEIGHT = -4.0, 2.0
ADAM_RATE = 1.0
GUIDED_BETAS = (1.0, 1 / 2, 1 / 3, 1 / 4)
# The search of the configs, and their guided decoding.
DEFAULT = "ranked, gold-free head + judge (default)"
GUIDED = "guided, beta 1/4"
SEEDS = (0, 1, 2)


def arms(guide: str) -> list[Arm]:
    """Every method of the comparison; `guide` is the role of the gradient guide."""
    warm = Sampling(temperature=0.5)
    published = nabla_arm(dto=DTO(learning_rate=0.01), resample=warm)
    unmoved = nabla_arm(dto=DTO(learning_rate=0.0), resample=warm)
    adam = nabla_arm(dto=DTO(learning_rate=ADAM_RATE))
    mirror = nabla_arm(dto=DTO(optimizer="mirror", beta=BETA))
    default = ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT)
    first = ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT, speculate=4)
    best = ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT, speculate=4, take="best")
    narrow = ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT, nucleus=0.99)
    few = ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT, max_rollouts=4)
    return [
        Arm("greedy", Decoding("greedy", MAX_TOKENS)),
        Arm("majority of 8", majority_of(8), seeds=SEEDS),
        *(Arm(f"best of {n}", best_of(n), seeds=SEEDS) for n in (2, 4, 8, 16)),
        *(Arm(f"best of {n}", best_of(n)) for n in (32, 64)),
        Arm("null: second choice", nabla_arm(proposals="second"), null=True),
        Arm("null: random flip", nabla_arm(proposals="random"), seeds=SEEDS, null=True),
        Arm("null: learning rate 0, tau .5", unmoved, guide=guide, seeds=SEEDS, null=True),
        Arm(
            "null: ranked, no gradient",
            ranked_arm(None, NULL_MIN_SCORE, NULL_REWARD_WEIGHT),
            null=True,
        ),
        Arm("null: ranked, judge alone accepts", ranked_arm(None, -2.0, 0.0), null=True),
        Arm("Adam .01 tau .5, guide + judge", published, guide=guide, seeds=SEEDS),
        Arm(f"Adam {ADAM_RATE:g}, guide + judge", adam, guide=guide),
        Arm("mirror left to right, guide + judge", mirror, guide=guide),
        Arm("ranked, judge in both roles", default, guide="judge"),
        Arm("ranked, guide in both roles", default, judge=guide, guide=guide),
        Arm("ranked, judge alone accepts", ranked_arm(BETA, -2.0, 0.0), guide=guide),
        Arm("ranked, guide before calibration", ranked_arm(4.0, -2.0, 0.0), guide="aligned"),
        Arm("ranked, 4 rollouts", few, guide=guide),
        Arm("ranked, batches of 4, first", first, guide=guide),
        Arm("ranked, batches of 4, best", best, guide=guide),
        Arm("ranked, nucleus .99", narrow, guide=guide),
        Arm("ranked, two positions at once", default, guide=guide, order=two_at_once),
        Arm("ranked, second-order advantages", default, guide=guide, order=second_order),
        Arm("ranked, guide + judge", default, guide=guide),
        Arm(DEFAULT, default, guide="head"),
        *guided_arms(),
    ]


def guided_arms() -> list[Arm]:
    """Guided decoding with the head at several strengths, and the search at the same."""
    found = []
    for beta in GUIDED_BETAS:
        name = f"beta {Fraction(beta).limit_denominator(9)}"
        tails = Sampling(temperature=0, beta=beta)
        searches = {
            "search": ranked_arm(beta, MIN_SCORE, REWARD_WEIGHT),
            "search on guided tails": ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT, rollout=tails),
        }
        ways = {"guided": guided_arm(beta)} | searches
        ways |= {f"guided best of {n}": guided_best_of(n, beta) for n in (4, 8)}
        found += [Arm(f"{way}, {name}", decoding, guide="head") for way, decoding in ways.items()]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gain")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--figures", type=Path, metavar="DIR")
    parser.add_argument("--models", type=Path, nargs="+", default=[ROOT])
    parser.add_argument("--guide", choices=("guide", "gold"), default="guide")
    parser.add_argument("--only", nargs="+", help="arms whose names hold one of these texts")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    options = parser.parse_args()
    quiet()
    prompts = task.prompts(options.prompts, seed=0, split=options.split)
    reports = {}
    for models in options.models:
        print(
            f"\n{len(prompts)} {options.split} prompts, models {models.name}, "
            f"batch {options.batch}, one CPU thread, fp32",
            flush=True,
        )
        results = measure(models, prompts, options)
        reports[models.name] = summary(results)
    if options.figures:
        figure.store(options.figures, next(iter(reports.values()))["arms"])
        figure.draw(options.figures)
    line: dict[str, Any] = dict(next(iter(reports.values())))
    if len(reports) > 1:
        line["by_models"] = reports
    print(json.dumps(line))


def measure(
    models: Path, prompts: list[Prompt], options: argparse.Namespace
) -> dict[str, ArmResult]:
    """Run every arm with one set of models."""
    results: dict[str, ArmResult] = {}
    for arm in arms(options.guide):
        roles = {arm.judge, arm.guide or arm.judge}
        if not all((models / role).is_dir() for role in roles):
            print(f"left out, no such models: {arm.name}")
            continue
        if options.only and not any(text in arm.name for text in options.only):
            continue
        engines = engines_for(arm, lambda role: str(models / role), options.batch)
        results[arm.name] = run(arm, prompts, engines, batch=options.batch)
        print_table([results[arm.name]], header=len(results) == 1)
    return results


def summary(results: dict[str, ArmResult]) -> dict[str, Any]:
    """The default method's figures and its differences, as far as the arms were run."""
    found: dict[str, Any] = {
        "arms": {
            name: {
                "accuracy": round(sum(o.answer) / len(o.answer), 4),
                "accuracy_interval": Interval.of(o.answer).triple()[1:],
                "trace": round(sum(o.trace) / len(o.trace), 4),
                "prompts": len(o.answer),
                "draw_seeds": len(o.arm.seeds),
                "auc": None if o.auc is None else round(o.auc, 4),
                "calls": round(o.cost.paper_calls, 2),
                "mflop": round(o.cost.flops / 1e6, 1),
                "seconds_per_1000": round(o.seconds, 2),
            }
            for name, o in results.items()
        }
    }
    mine = results.get(DEFAULT)
    if mine is None:
        return found
    found |= {name: found["arms"][DEFAULT][name] for name in ("accuracy", "trace", "calls")}
    if guided := results.get(GUIDED):
        found["guided_minus_search"] = paired(guided, mine).triple()
    if best := results.get("best of 8"):
        found["flops_over_best_of_8"] = round(mine.cost.flops / best.cost.flops, 3)
        found["minus_best_of_8"] = paired(mine, best).triple()
    if best := results.get("best of 16"):
        found["seconds_over_best_of_16"] = round(mine.seconds / best.seconds, 3)
    if nulls := [o for o in results.values() if o.arm.null]:
        null = max(nulls, key=lambda o: sum(o.answer))
        found["minus_best_null"] = paired(mine, null).triple()
        found["best_null"] = null.arm.name
    return found


if __name__ == "__main__":
    main()
