"""Accuracy and cost of the search with each of several guides.

    python -m tests.bench.guides [--guide head_lm=DIR ...] [--lm tuned=DIR ...] [--models DIR]
        [--prompts 2000] [--task digits] [--tune 300] [--rollouts 8 4 2] [--best-of 8] [--batch 256]

Ranked proposals on unseen prompts of the embedded task, or of `--task stories`. The arms are:

- greedy decoding, best of N (`--best-of`), and `null`: no guide;
- the guides in the folder `--models` (of nabla_core.embedded.recipe.train or of
  tests.bench.stories.train; default: the shipped models): `judge`, the judge's own gradient;
  `gold`, the gold-aligned gradient; `gradient`, a gradient trained without answers; `gold_free`,
  the default head;
- every `--guide` NAME=FOLDER of jobs.train_guide, of either kind;
- every `--lm` NAME=FOLDER, another LM: greedy, and without a guide.

Every guide is used with the settings of the shipped one (beta 1, min_score -3, reward_weight 2),
the null arm with the settings that are best for it (tests.bench.gain). With `--tune N`, beta and
min_score of every arm are chosen on N validation prompts instead. `--rollouts` repeats every guide
with at most so many proposals per prompt. Differences are paired by prompt. The last line is one
JSON object with all arms and their differences from null and gold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nabla_core import Prompt
from nabla_core.config import Decoding
from nabla_core.embedded.weights import ROOT
from nabla_core.engines.base import Engines
from tests.bench.arms import (
    MAX_TOKENS,
    Arm,
    ArmResult,
    best_of,
    engines_for,
    paired,
    print_table,
    quiet,
    ranked_arm,
    run,
)
from tests.bench.gain import BETA, MIN_SCORE, NULL_MIN_SCORE, NULL_REWARD_WEIGHT, REWARD_WEIGHT
from tests.bench.tasks import TASKS, Task

BETAS = (4.0, 2.0, 1.0, 0.5)
MIN_SCORES = (-4.0, -3.0, -2.0)
ROLES = {"judge": "judge", "gold": "gold", "gradient": "guide", "gold_free": "head"}
NULL = Arm("null", ranked_arm(None, NULL_MIN_SCORE, NULL_REWARD_WEIGHT), null=True)
GREEDY = Arm("greedy", Decoding("greedy", MAX_TOKENS))

Folder = Callable[[str], str]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guides")
    parser.add_argument("--guide", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--lm", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--models", type=Path, default=ROOT)
    parser.add_argument("--task", choices=TASKS, default="digits")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--tune", type=int, default=0)
    parser.add_argument("--rollouts", type=int, nargs="+", default=[8])
    parser.add_argument("--best-of", type=int, nargs="+", default=[])
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    quiet()
    guides = dict(pair.split("=", 1) for pair in options.guide)
    lms = dict(pair.split("=", 1) for pair in options.lm)
    known = {name: options.models / role for name, role in ROLES.items()}
    # A run folder of the same name beside the models has no config.json and is no model.
    found = {n: str(path) for n, path in known.items() if (path / "config.json").is_file()}
    guides = {**found, **guides}
    task = TASKS[options.task]
    unseen = task.prompts(options.prompts, "test")
    validation = task.prompts(options.tune, "validation")

    def paths(role: str) -> str:
        return guides[role] if role in guides else str(options.models / role)

    results: dict[str, ArmResult] = {}

    def measure(arm: Arm, paths: Folder = paths, betas: Sequence[float | None] = ()) -> None:
        arm = replace(arm, decoding=replace(arm.decoding, max_tokens=task.max_tokens))
        engines = engines_for(arm, paths, options.batch)
        if validation and (arm.guide or arm.null):
            arm = tuned(arm, engines, task, validation, betas or (None,), options.batch)
        results[arm.name] = run(arm, unseen, engines, batch=options.batch, grade=task.grade)
        print_table([results[arm.name]], header=len(results) == 1)

    print(f"\n{len(unseen)} unseen prompts, batch {options.batch}, one CPU thread, fp32")
    measure(GREEDY)
    for n in options.best_of:
        measure(Arm(f"best of {n}", best_of(n)))
    measure(NULL)
    for name in guides:
        for most in options.rollouts:
            decoding = ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT, max_rollouts=most)
            label = name if most == 8 else f"{name}, {most} rollouts"
            measure(Arm(label, decoding, guide=name), betas=BETAS)
    for name, path in lms.items():
        for arm in (GREEDY, NULL):
            mine = replace(arm, name=f"{name}, {arm.name}")
            measure(mine, partial(_instead, path, paths))
    print(json.dumps(summary(results)))


def _instead(lm: str, paths: Folder, role: str) -> str:
    return lm if role == "lm" else paths(role)


def tuned(
    arm: Arm,
    engines: Engines,
    task: Task,
    prompts: Sequence[Prompt],
    betas: Sequence[float | None],
    batch: int,
) -> Arm:
    """The arm at the beta and min_score that are best on these prompts; fewer calls break ties."""
    tried = [
        run(
            replace(arm, decoding=_ranked(arm.decoding, beta, min_score)),
            prompts,
            engines,
            batch=batch,
            grade=task.grade,
        )
        for beta in betas
        for min_score in MIN_SCORES
    ]
    best = max(tried, key=lambda o: (sum(o.answer), -o.cost.paper_calls))
    ranked = best.arm.decoding.nabla.ranked
    print(f"{arm.name}: beta {ranked.beta}, min_score {ranked.min_score:g}", flush=True)
    return best.arm


def _ranked(decoding: Decoding, beta: float | None, min_score: float) -> Decoding:
    ranked = replace(decoding.nabla.ranked, beta=beta, min_score=min_score)
    return replace(decoding, nabla=replace(decoding.nabla, ranked=ranked))


def summary(results: dict[str, ArmResult]) -> dict[str, object]:
    """Figures by arm, and every guide's differences from null and gold."""
    arms = {
        name: {
            "accuracy": round(sum(o.answer) / len(o.answer), 4),
            "trace": round(sum(o.trace) / len(o.trace), 4),
            "calls": round(o.cost.paper_calls, 2),
            "mflop": round(o.cost.flops / 1e6, 1),
            "seconds_per_1000": round(o.seconds, 2),
            **_settings(o.arm),
        }
        for name, o in results.items()
    }
    against = {
        f"{name}_minus_{other}": paired(o, results[other]).triple()
        for name, o in results.items()
        for other in ("null", "gold")
        if name not in ("greedy", "null", other) and other in results
    }
    return {"arms": arms, **against}


def _settings(arm: Arm) -> dict[str, float | None]:
    ranked = arm.decoding.nabla.ranked
    return {"beta": ranked.beta, "min_score": ranked.min_score} if arm.guide or arm.null else {}


if __name__ == "__main__":
    main()
