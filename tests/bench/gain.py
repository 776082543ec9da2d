"""What each gradient buys: accuracy against calls, FLOPs and seconds, all methods, one run.

    python -m tests.bench.gain [--prompts 2000] [--batch 256] [--plot gain.png]
                               [--models DIR ...] [--adam-lr 0.3] [--eta .25] [--stop -2]

`--models` are folders with lm, judge and guide each (one a training seed; the shipped ones
without it). Settings come from jobs.tune on validation prompts, never from these. The
last line is one JSON object for the default method.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

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
    nabla_arm,
    paired,
    print_table,
    quiet,
    ranked_arm,
    run,
)

DEFAULT = "ranked, guide + judge"
SEEDS = (0, 1, 2)
NULL_STOP = -2.0


def arms(options: argparse.Namespace) -> list[Arm]:
    """Every method of the comparison."""
    eta, stop, rate = options.eta, options.stop, options.adam_lr
    published = nabla_arm(dto=DTO(learning_rate=0.01), resample=Sampling(temperature=0.5))
    mirror = nabla_arm(dto=DTO(optimizer="mirror", eta=eta))
    best = ranked_arm(eta, stop, speculate=4, take="best")
    found = [Arm("greedy", Decoding("greedy", MAX_TOKENS))]
    found += [Arm(f"best of {n}", best_of(n), seeds=SEEDS) for n in (2, 4, 8, 16, 32, 64)]
    found += [
        Arm("null: second choice", nabla_arm(proposals="second"), null=True),
        Arm("null: random flip", nabla_arm(proposals="random"), seeds=SEEDS, null=True),
        Arm("null: ranked, no gradient", ranked_arm(0.0, NULL_STOP), null=True),
        Arm("Adam .01 tau .5, guide + judge", published, guide="guide", seeds=SEEDS),
        Arm(f"Adam {rate:g}, guide + judge", nabla_arm(dto=DTO(learning_rate=rate)), guide="guide"),
        Arm("mirror left to right, guide + judge", mirror, guide="guide"),
        Arm("ranked, judge in both roles", ranked_arm(eta, stop), guide="judge"),
        Arm("ranked, guide in both roles", ranked_arm(eta, stop), judge="guide", guide="guide"),
        Arm(
            "ranked, guide + judge, 4 rollouts",
            ranked_arm(eta, stop, max_rollouts=4),
            guide="guide",
        ),
        Arm("ranked, guide + judge, best of batch of 4", best, guide="guide"),
        Arm(
            "ranked, nucleus .99, guide + judge", ranked_arm(eta, stop, nucleus=0.99), guide="guide"
        ),
        Arm(DEFAULT, ranked_arm(eta, stop), guide="guide"),
    ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gain")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--models", type=Path, nargs="+", default=[ROOT])
    parser.add_argument("--adam-lr", type=float, default=0.3)
    parser.add_argument("--eta", type=float, default=0.25)
    parser.add_argument("--stop", type=float, default=-2.0)
    options = parser.parse_args()
    quiet()
    prompts = task.prompts(options.prompts, seed=0, split="test")
    reports = []
    for models in options.models:
        outcomes = measure(models, prompts, options)
        print(f"\n{len(prompts)} unseen prompts, models {models.name}, batch {options.batch}")
        print_table(list(outcomes.values()))
        reports.append(summary(outcomes))
        if options.plot:
            name = options.plot.with_stem(f"{options.plot.stem}-{models.name}")
            plot(list(outcomes.values()), name if len(options.models) > 1 else options.plot)
    line = reports[0] if len(reports) == 1 else {"by_models": reports}
    print(json.dumps(line))


def measure(models: Path, prompts: list[Prompt], options: argparse.Namespace) -> dict[str, Outcome]:
    """Run every arm with one set of models."""
    outcomes = {}
    for arm in arms(options):
        engines = engines_for(arm, lambda role: str(models / role), options.batch)
        outcomes[arm.name] = run(arm, prompts, engines, batch=options.batch)
    return outcomes


def summary(outcomes: dict[str, Outcome]) -> dict[str, object]:
    """The default method's figures and its differences."""
    mine = outcomes[DEFAULT]
    null = max((o for o in outcomes.values() if o.arm.null), key=lambda o: sum(o.answer))
    n = len(mine.answer)
    return {
        "accuracy": round(sum(mine.answer) / n, 4),
        "trace": round(sum(mine.trace) / n, 4),
        "calls": round(mine.cost.paper_calls, 2),
        "flops_over_best_of_8": round(mine.cost.flops / outcomes["best of 8"].cost.flops, 3),
        "seconds_over_best_of_16": round(mine.seconds / outcomes["best of 16"].seconds, 3),
        "minus_best_of_8": paired(mine, outcomes["best of 8"]).triple(),
        "minus_best_null": paired(mine, null).triple(),
        "best_null": null.arm.name,
    }


def plot(outcomes: list[Outcome], path: Path) -> None:
    """Accuracy against FLOPs, every method a point."""
    import matplotlib  # noqa: PLC0415 - only where a plot is asked for

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(9, 6))
    for o in outcomes:
        colour = (
            "tab:grey" if o.arm.null else "tab:orange" if "best of" in o.arm.name else "tab:blue"
        )
        if o.arm.name == DEFAULT:
            colour = "tab:red"
        accuracy = sum(o.answer) / len(o.answer)
        axes.scatter(o.cost.flops / 1e6, accuracy, color=colour)
        axes.annotate(
            o.arm.name,
            (o.cost.flops / 1e6, accuracy),
            (4, 4),
            textcoords="offset points",
            fontsize=7,
        )
    axes.set(xscale="log", xlabel="estimated MFLOP a prompt", ylabel="accuracy (last digit)")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
