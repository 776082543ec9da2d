"""What each gradient buys: accuracy against calls, FLOPs and seconds, all methods, one run.

    python -m tests.bench.gain [--prompts 2000] [--batch 256] [--plot gain.png]
                               [--models DIR ...] [--guide gold] [--only TEXT ...]

Accuracy is the last digit, trace every step right, with 95 % intervals over prompts; sampling
arms run under three seeds (best of 32 and 64 under one); differences are paired by prompt.
Settings were chosen on validation prompts of the shipped models, for every arm that has any,
and hold for all models. `--models` are folders with lm and judge each (one a training
seed: `python -m nabla_core.embedded.recipe.train --seed 1 --out DIR` makes aligned and gold too),
head and guide (what configs/train_head_embedded.yaml and configs/train_guide_embedded.yaml make for
those models); without it the shipped ones. Arms whose models are not there are left out.
`--guide gold`: the gradient guide of every arm is the gold-aligned one.
The last line is one JSON object: figures of the default method with the first models, and
the same by models where there are several.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from nabla_core import DTO, Prompt, Sampling
from nabla_core.config import Decoding
from nabla_core.embedded import task
from nabla_core.embedded.weights import ROOT
from tests.bench.arms import (
    MAX_TOKENS,
    Arm,
    Outcome,
    best_of,
    engines_for,
    majority_of,
    nabla_arm,
    paired,
    print_table,
    quiet,
    ranked_arm,
    run,
)
from tests.bench.variants import second_order, two_at_once

ETA, STOP, TRUST = 1.0, -3.0, 2.0
NULL_STOP, NULL_TRUST = -4.0, 2.0
ADAM_RATE = 1.0
DEFAULT = "ranked, gold-free head + judge (default)"
SEEDS = (0, 1, 2)


def arms(guide: str) -> list[Arm]:
    """Every method of the comparison; `guide` is the role of the gradient guide."""
    warm = Sampling(temperature=0.5)
    published = nabla_arm(dto=DTO(learning_rate=0.01), resample=warm)
    unmoved = nabla_arm(dto=DTO(learning_rate=0.0), resample=warm)
    adam = nabla_arm(dto=DTO(learning_rate=ADAM_RATE))
    mirror = nabla_arm(dto=DTO(optimizer="mirror", eta=ETA))
    default = ranked_arm(ETA, STOP, TRUST)
    first = ranked_arm(ETA, STOP, TRUST, speculate=4)
    best = ranked_arm(ETA, STOP, TRUST, speculate=4, take="best")
    narrow = ranked_arm(ETA, STOP, TRUST, nucleus=0.99)
    few = ranked_arm(ETA, STOP, TRUST, max_rollouts=4)
    return [
        Arm("greedy", Decoding("greedy", MAX_TOKENS)),
        Arm("majority of 8", majority_of(8), seeds=SEEDS),
        *(Arm(f"best of {n}", best_of(n), seeds=SEEDS) for n in (2, 4, 8, 16)),
        *(Arm(f"best of {n}", best_of(n)) for n in (32, 64)),
        Arm("null: second choice", nabla_arm(proposals="second"), null=True),
        Arm("null: random flip", nabla_arm(proposals="random"), seeds=SEEDS, null=True),
        Arm("null: learning rate 0, tau .5", unmoved, guide=guide, seeds=SEEDS, null=True),
        Arm("null: ranked, no gradient", ranked_arm(0.0, NULL_STOP, NULL_TRUST), null=True),
        Arm("null: ranked, judge alone accepts", ranked_arm(0.0, -2.0, 0.0), null=True),
        Arm("Adam .01 tau .5, guide + judge", published, guide=guide, seeds=SEEDS),
        Arm(f"Adam {ADAM_RATE:g}, guide + judge", adam, guide=guide),
        Arm("mirror left to right, guide + judge", mirror, guide=guide),
        Arm("ranked, judge in both roles", default, guide="judge"),
        Arm("ranked, guide in both roles", default, judge=guide, guide=guide),
        Arm("ranked, judge alone accepts", ranked_arm(ETA, -2.0, 0.0), guide=guide),
        Arm("ranked, guide before calibration", ranked_arm(0.25, -2.0, 0.0), guide="aligned"),
        Arm("ranked, 4 rollouts", few, guide=guide),
        Arm("ranked, batches of 4, first", first, guide=guide),
        Arm("ranked, batches of 4, best", best, guide=guide),
        Arm("ranked, nucleus .99", narrow, guide=guide),
        Arm("ranked, two positions at once", default, guide=guide, order=two_at_once),
        Arm("ranked, second-order gains", default, guide=guide, order=second_order),
        Arm("ranked, guide + judge", default, guide=guide),
        Arm(DEFAULT, default, guide="head"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gain")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--models", type=Path, nargs="+", default=[ROOT])
    parser.add_argument("--guide", choices=("guide", "gold"), default="guide")
    parser.add_argument("--only", nargs="+", help="arms whose names hold one of these texts")
    options = parser.parse_args()
    quiet()
    prompts = task.prompts(options.prompts, seed=0, split="test")
    reports = {}
    for models in options.models:
        print(
            f"\n{len(prompts)} unseen prompts, models {models.name}, batch {options.batch}, "
            "one CPU thread, fp32",
            flush=True,
        )
        outcomes = measure(models, prompts, options)
        reports[models.name] = summary(outcomes)
        if options.plot:
            name = options.plot.with_stem(f"{options.plot.stem}-{models.name}")
            plot(list(outcomes.values()), name if len(options.models) > 1 else options.plot)
    line: dict[str, Any] = dict(next(iter(reports.values())))
    if len(reports) > 1:
        line["by_models"] = reports
    print(json.dumps(line))


def measure(models: Path, prompts: list[Prompt], options: argparse.Namespace) -> dict[str, Outcome]:
    """Run every arm with one set of models."""
    outcomes: dict[str, Outcome] = {}
    for arm in arms(options.guide):
        roles = {arm.judge, arm.guide or arm.judge}
        if not all((models / role).is_dir() for role in roles):
            print(f"left out, no such models: {arm.name}")
            continue
        if options.only and not any(text in arm.name for text in options.only):
            continue
        engines = engines_for(arm, lambda role: str(models / role), options.batch)
        outcomes[arm.name] = run(arm, prompts, engines, batch=options.batch)
        print_table([outcomes[arm.name]], header=len(outcomes) == 1)
    return outcomes


def summary(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """The default method's figures and its differences, as far as the arms were run."""
    found: dict[str, Any] = {
        "arms": {
            name: {
                "accuracy": round(sum(o.answer) / len(o.answer), 4),
                "trace": round(sum(o.trace) / len(o.trace), 4),
                "calls": round(o.cost.paper_calls, 2),
                "mflop": round(o.cost.flops / 1e6, 1),
                "seconds_per_1000": round(o.seconds, 2),
            }
            for name, o in outcomes.items()
        }
    }
    mine = outcomes.get(DEFAULT)
    if mine is None:
        return found
    found |= {name: found["arms"][DEFAULT][name] for name in ("accuracy", "trace", "calls")}
    if best := outcomes.get("best of 8"):
        found["flops_over_best_of_8"] = round(mine.cost.flops / best.cost.flops, 3)
        found["minus_best_of_8"] = paired(mine, best).triple()
    if best := outcomes.get("best of 16"):
        found["seconds_over_best_of_16"] = round(mine.seconds / best.seconds, 3)
    if nulls := [o for o in outcomes.values() if o.arm.null]:
        null = max(nulls, key=lambda o: sum(o.answer))
        found["minus_best_null"] = paired(mine, null).triple()
        found["best_null"] = null.arm.name
    return found


def plot(outcomes: list[Outcome], path: Path) -> None:
    """Accuracy against FLOPs, every method a point."""
    import matplotlib  # noqa: PLC0415 - only where a plot is asked for

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(10, 7))
    for number, o in enumerate(outcomes, 1):
        rival = "best of" in o.arm.name or o.arm.name in ("greedy", "majority of 8")
        colour = "tab:grey" if o.arm.null else "tab:orange" if rival else "tab:blue"
        if o.arm.name == DEFAULT:
            colour = "tab:red"
        x, y = o.cost.flops / 1e6, sum(o.answer) / len(o.answer)
        axes.scatter(x, y, color=colour, label=f"{number} {o.arm.name}")
        axes.annotate(str(number), (x, y), (5, 3), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="estimated MFLOP a prompt", ylabel="accuracy (last digit)")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    figure.savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
