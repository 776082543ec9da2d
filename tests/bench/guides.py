"""Guides side by side: what each is worth to the search, and what it costs.

    python -m tests.bench.guides --guide gold_free=runs/guide-embedded/guide \\
        [--guide head_judge=DIR ...] [--lm tuned=DIR] [--prompts 2000] [--tune 300] [--batch 256]

Ranked proposals under the shipped judge, on unseen prompts of the embedded task: no gradient
(null), the judge's own gradient, the shipped gold-aligned guide, and every `--guide` NAME=FOLDER
of jobs.train_guide, of either kind. `--lm` NAME=FOLDER are LMs of their own, greedy and under the
null arm. eta and stop of each guide are chosen on `--tune` validation prompts; with --tune 0 they
are those of the config (gold: eta .25, else the calibrated 1; stop -2). Differences are paired by
prompt. The last line is one JSON object; `gold_free_minus_null` and
`gold_free_minus_gold` are in it where a guide of that name is given.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from nabla_core import Prompt
from nabla_core.config import Decoding
from nabla_core.embedded import task
from nabla_core.embedded.weights import folder
from tests.bench.arms import (
    MAX_TOKENS,
    Arm,
    Outcome,
    engines_for,
    paired,
    print_table,
    quiet,
    ranked_arm,
    run,
)

ETAS = (0.25, 0.5, 1.0, 2.0)
STOPS = (-2.0, 0.0)
NULL = Arm("null", ranked_arm(0.0, -2.0), null=True)
GREEDY = Arm("greedy", Decoding("greedy", MAX_TOKENS))

Folder = Callable[[str], str]


def tuned(arm: Arm, paths: Folder, prompts: Sequence[Prompt], batch: int) -> Arm:
    """The arm at the eta and stop that are best on these prompts; fewer calls break ties."""
    engines = engines_for(arm, paths, batch)
    tried = [
        run(replace(arm, decoding=ranked_arm(eta, stop)), prompts, engines, batch=batch)
        for eta in ETAS
        for stop in STOPS
    ]
    best = max(tried, key=lambda o: (sum(o.answer), -o.cost.paper_calls))
    ranked = best.arm.decoding.nabla.ranked
    print(f"{arm.name}: eta {ranked.eta:g}, stop {ranked.stop:g}", flush=True)
    return best.arm


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guides")
    parser.add_argument("--guide", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--lm", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--tune", type=int, default=300)
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    quiet()
    given = dict(pair.split("=", 1) for pair in options.guide)
    lms = dict(pair.split("=", 1) for pair in options.lm)
    unseen = task.prompts(options.prompts, seed=0, split="test")
    validation = task.prompts(options.tune, seed=0, split="validation")
    shipped = {"lm", "judge", "guide"}

    def paths(name: str) -> str:
        return str(folder(name)) if name in shipped else given[name]  # type: ignore[arg-type]

    outcomes: dict[str, Outcome] = {}
    for arm in (GREEDY, NULL):
        outcomes[arm.name] = run(
            arm, unseen, engines_for(arm, paths, options.batch), batch=options.batch
        )
    for name, role in {"judge": "judge", "gold": "guide", **{n: n for n in given}}.items():
        arm = Arm(name, ranked_arm(0.25 if name == "gold" else 1.0, -2.0), guide=role)
        if validation:
            arm = tuned(arm, paths, validation, options.batch)
        engines = engines_for(arm, paths, options.batch)
        outcomes[name] = run(arm, unseen, engines, batch=options.batch)
    for name, path in lms.items():
        for arm in (GREEDY, NULL):
            mine = replace(arm, name=f"{name}, {arm.name}")
            engines = engines_for(
                mine, lambda role, path=path: path if role == "lm" else paths(role), options.batch
            )
            outcomes[mine.name] = run(mine, unseen, engines, batch=options.batch)
    print(f"\n{len(unseen)} unseen prompts, batch {options.batch}, one CPU thread, fp32")
    print_table(list(outcomes.values()))
    print(json.dumps(summary(outcomes)))


def summary(outcomes: dict[str, Outcome]) -> dict[str, object]:
    """Figures by arm, and every guide's differences from null and gold."""
    arms = {
        name: {
            "accuracy": round(sum(o.answer) / len(o.answer), 4),
            "trace": round(sum(o.trace) / len(o.trace), 4),
            "calls": round(o.cost.paper_calls, 2),
            "mflop": round(o.cost.flops / 1e6, 1),
            "seconds": round(o.seconds, 2),
            **_settings(o.arm),
        }
        for name, o in outcomes.items()
    }
    against = {
        f"{name}_minus_{other}": paired(o, outcomes[other]).triple()
        for name, o in outcomes.items()
        for other in ("null", "gold")
        if name not in ("greedy", other)
    }
    return {"arms": arms, **against}


def _settings(arm: Arm) -> dict[str, float]:
    ranked = arm.decoding.nabla.ranked
    return {"eta": ranked.eta, "stop": ranked.stop} if arm.guide else {}


if __name__ == "__main__":
    main()
