"""A random schedule of kills and freezes over runs of `jobs.generate` on a cluster of three nodes.

    python -m tests.chaos.schedule [--minutes 30] [--seed 0]   runs until the time is over
    python -m tests.chaos.schedule --kills 24                  until there were so many kills

Killed by SIGKILL are actors, the ledger, Ray's other worker processes, raylets (another node
joins), drivers (the same command is started again, with other numbers of actors and batch
sizes), workers and drivers at points of the commit protocol, and the whole cluster with its
head (the command is started on a new one).

Suspended by SIGSTOP, for 5 to 60 seconds, are actors, ledgers, raylets and drivers. While a driver
is suspended, another one, which appears to be on another machine, takes the folder over. A
`lost_actor` is suspended while its node is killed: Ray has declared it dead when it goes on.

The final rows are compared with those of an undisturbed run. The seed decides the order of the
kills and the victims.

The last line is one JSON object. `passes_ratio` is the number of rollouts, which the engines
count in a log, divided by that of undisturbed runs. `gave_up` counts the drivers that ended
although neither they nor their head were killed. `replaced` counts the suspended drivers by their
exit code: 2 is that of a lost lease, and another one may come from Ray where the head was killed
too. `hung` counts those of them that did not end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from pipeline.store.failpoints import VARIABLE
from tests.chaos.comparison import count_differences, final_rows, rows_by_key
from tests.chaos.disturbed_run import DisturbedRun, failpoints, write_prompts
from tests.chaos.nodes import Nodes

# How often each kind of kill comes, relative to the others.
KINDS = {
    **{"actor": 9, "worker": 3, "ledger": 1, "point": 5, "raylet": 4, "driver": 4, "head": 1},
    **{"freeze_actor": 3, "freeze_lost_actor": 3, "freeze_ledger": 2, "freeze_raylet": 1},
    "freeze_driver": 4,
}


def disturbed_run(
    folder: Path,
    nodes: Nodes,
    seed: str,
    planned: list[str],
    pace: int,
    longest_freeze: float = 60.0,
) -> DisturbedRun:
    """A complete run with these kills, one after every `pace` passes."""
    run = DisturbedRun(folder, nodes, random.Random(seed), longest_freeze=longest_freeze)
    run.execute(planned, pace)
    return run


def plan(seed: str, count: int) -> list[str]:
    """`count` kinds of kills in random order, each kind at least once if `count` allows."""
    rng = random.Random(seed)
    kinds = list(KINDS)[:count]
    kinds += rng.choices(list(KINDS), list(KINDS.values()), k=count - len(kinds))
    rng.shuffle(kinds)
    return kinds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.schedule", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kills", type=int, help="at least so many, in as many runs")
    parser.add_argument("--longest-freeze", type=float, default=60, help="in seconds")
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        base = Path(folder)
        write_prompts(base / "prompts.jsonl", options.prompts)
        os.environ[VARIABLE] = failpoints(base)
        nodes = Nodes()
        try:
            report = chaos(base, nodes, options, started)
        finally:
            nodes.close()
    report["minutes"] = round((time.monotonic() - started) / 60, 1)
    print(json.dumps(report))


def chaos(base: Path, nodes: Nodes, options: argparse.Namespace, started: float) -> dict:
    """Disturbed runs until there were enough kills, each compared with an undisturbed run."""
    undisturbed = disturbed_run(base / "undisturbed", nodes, "u", [], 0)
    expected = rows_by_key(final_rows(undisturbed.run_dir))
    passes = undisturbed.passes()
    print(f"undisturbed: {len(expected)} rows, {passes} passes", flush=True)
    count = options.kills or 40
    kills: Counter[str] = Counter()
    replaced: Counter[int] = Counter()
    differences: Counter[str] = Counter()
    workers: set[str] = set()
    made = runs = gave_up = hung = 0

    def enough() -> bool:
        if options.kills:
            return kills.total() >= options.kills
        return runs > 0 and time.monotonic() - started >= 60 * options.minutes

    while not enough():
        seed = f"{options.seed}-{runs}"
        planned, pace = plan(seed, count), passes // count
        run = disturbed_run(base / f"run{runs}", nodes, seed, planned, pace, options.longest_freeze)
        rows = final_rows(run.run_dir)
        found = count_differences(expected, rows_by_key(rows))
        workers |= {row["worker"] for row in rows}
        kills += run.kills
        replaced += run.replaced
        hung += run.hung
        differences.update(found)
        gave_up += run.gave_up
        made += run.passes()
        runs += 1
        print(
            f"run {runs}: {run.kills.total()} kills {dict(run.kills)}, "
            f"{run.passes() / passes:.2f} passes, {len(rows)} rows, {dict(found)}, "
            f"{run.gave_up} drivers gave up, replaced {dict(run.replaced)}, {run.hung} hung, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
        if not any(found.values()) and not run.gave_up and not run.hung and not run.replaced[0]:
            shutil.rmtree(run.folder)
        else:
            kept = Path(tempfile.mkdtemp(prefix="chaos-failed-")) / run.folder.name
            shutil.copytree(run.folder, kept)
            print(f"kept {kept}", flush=True)
    return {
        "seed": options.seed,
        "runs": runs,
        "rows": len(expected),
        "kills": kills.total(),
        **{f"kills_{kind}": kills[kind] for kind in KINDS},
        "replaced": dict(replaced),
        "hung": hung,
        **differences,
        "gave_up": gave_up,
        "workers": len(workers),
        "nodes": len({worker.partition("-")[0] for worker in workers}),
        "passes_ratio": round(made / (runs * passes), 3),
        "passes_lost_a_kill": round((made - runs * passes) / kills.total(), 1),
    }


if __name__ == "__main__":
    main()
