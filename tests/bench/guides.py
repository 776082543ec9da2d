"""Accuracy and cost of the search with each of several guides.

    python -m tests.bench.guides [--guide head_lm=DIR ...] [--lm tuned=DIR ...] [--models DIR]
        [--prompts 2000] [--task digits] [--tune 300] [--rollouts 8 4 2] [--best-of 8] [--batch 256]
        [--guided 1 .5 .25] [--guided-temperature 0 1]

Ranked proposals on unseen prompts of the embedded task, or of `--task stories`. The arms are:

- greedy decoding, best of N (`--best-of`), and `null`: no guide;
- the guides in the folder `--models` (of nabla_core.embedded.recipe.train or of
  tests.bench.stories.train; default: the shipped models): `judge`, the judge's own gradient;
  `gold`, the gold-aligned gradient; `gradient`, a gradient trained without answers; `gold_free`,
  the default head;
- every `--guide` NAME=FOLDER of jobs.train_guide, of any kind;
- `--guided`: decoding guided by every head and value head, at each of these betas and at each
  `--guided-temperature` (0: the most probable token), without a search;
- every `--lm` NAME=FOLDER, another LM: greedy, and without a guide.

Every guide is used with the settings of the shipped one (beta 1, min_score -3, reward_weight 2),
the null arm with the settings that are best for it (tests.bench.gain). With `--tune N`, beta and
min_score of every arm are chosen on N validation prompts instead, and the beta of guided decoding.
`--rollouts` repeats every guide with at most so many proposals per prompt; without a number there
is no search. Differences are paired by prompt. The last line is one
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
from nabla_core.config import Decoding, Sampling
from nabla_core.embedded.weights import ROOT
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import kind_of
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
    parser.add_argument("--rollouts", type=int, nargs="*", default=[8])
    parser.add_argument("--guided", type=float, nargs="+", default=[])
    parser.add_argument("--guided-temperature", type=float, nargs="+", default=[0.0])
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

    def measure(arm: Arm, paths: Folder = paths, candidates: Sequence[Arm] = ()) -> None:
        """The arm; with validation prompts, the candidate in its place that is best on them."""
        engines = engines_for(arm, paths, options.batch)
        tried = list(candidates) if validation and candidates else [arm]
        tried = [
            replace(a, decoding=replace(a.decoding, max_tokens=task.max_tokens)) for a in tried
        ]
        arm = tried[0]
        if len(tried) > 1:
            arm = best_on(validation, tried, engines, task, options.batch)
        results[arm.name] = run(arm, unseen, engines, batch=options.batch, grade=task.grade)
        print_table([results[arm.name]], header=len(results) == 1)

    print(f"\n{len(unseen)} unseen prompts, batch {options.batch}, one CPU thread, fp32")
    measure(GREEDY)
    for n in options.best_of:
        measure(Arm(f"best of {n}", best_of(n)))
    if options.rollouts:
        measure(NULL, candidates=ranked_candidates(NULL, (None,)))
    for name in guides:
        for most in options.rollouts:
            decoding = ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT, max_rollouts=most)
            label = name if most == 8 else f"{name}, {most} rollouts"
            arm = Arm(label, decoding, guide=name)
            measure(arm, candidates=ranked_candidates(arm, BETAS))
        if options.guided and kind_of(paths(name), None) != "gradient":
            for temperature in options.guided_temperature:
                arms = [guided_arm(name, beta, temperature) for beta in options.guided]
                for arm in arms[:1] if validation else arms:
                    measure(arm, candidates=arms)
    for name, path in lms.items():
        for arm in (GREEDY, NULL):
            mine = replace(arm, name=f"{name}, {arm.name}")
            settings = ranked_candidates(mine, (None,)) if arm.null else []
            measure(mine, partial(_instead, path, paths), settings)
    print(json.dumps(summary(results)))


def _instead(lm: str, paths: Folder, role: str) -> str:
    return lm if role == "lm" else paths(role)


def guided_arm(guide: str, beta: float, temperature: float) -> Arm:
    """Decoding guided by a head or value head."""
    decoding = Decoding("guided", MAX_TOKENS, guided=Sampling(temperature, beta=beta))
    name = f"{guide}, guided {beta:g}" + (f" at temperature {temperature:g}" if temperature else "")
    return Arm(name, decoding, guide=guide)


def ranked_candidates(arm: Arm, betas: Sequence[float | None]) -> list[Arm]:
    """The arm at every beta and min_score."""
    return [
        replace(arm, decoding=_ranked(arm.decoding, beta, min_score))
        for beta in betas
        for min_score in MIN_SCORES
    ]


def best_on(
    prompts: Sequence[Prompt], arms: Sequence[Arm], engines: Engines, task: Task, batch: int
) -> Arm:
    """The arm that is best on these prompts; fewer calls break ties."""
    tried = [run(arm, prompts, engines, batch=batch, grade=task.grade) for arm in arms]
    best = max(tried, key=lambda o: (sum(o.answer), -o.cost.paper_calls))
    print(f"{best.arm.name}: {_settings(best.arm)}", flush=True)
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
    if arm.decoding.method == "guided":
        guided = arm.decoding.guided
        return {"beta": guided.beta, "temperature": guided.temperature}
    ranked = arm.decoding.nabla.ranked
    return {"beta": ranked.beta, "min_score": ranked.min_score} if arm.guide or arm.null else {}


if __name__ == "__main__":
    main()
