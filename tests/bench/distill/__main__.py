"""Students of search traces against their teacher and against students of other data.

    python -m tests.bench.distill --out DIR [--models FOLDER] [--prompts 8000] [--test 2000]
        [--steps 250] [--rates 5e-4 1e-3] [--sft-seeds 0 1] [--only ARM ...] [--core]

Each data set is made from the same training prompts and trains one student by `nabla distill`:
SFT of all weights, `--steps` steps of 32 rows, whatever the size of the data. The learning rate (of
`--rates`) and the checkpoint are chosen by greedy accuracy on 500 validation prompts, for each arm
by itself; the other seeds of SFT take the chosen rate. Students answer unseen prompts greedily.
Intervals are 95 % normal intervals over prompts; differences are paired by prompt.

`--models` is a folder with `lm`, `judge` and `head` (default: the shipped ones); one folder for
each training seed. `--core` measures the arms that every training seed must have. "guided" is
guided decoding at beta 1/4.

What was made is kept in DIR: data (`sources`), students (`students`), answers (`answers`). The same
command continues, and an arm that was made is not made again. Another DIR for another `--prompts`,
`--test`, `--steps` or `--models`; a DIR of other settings is refused.

Prints one row per arm as it is ready, the yields of the ways to generate, and the differences. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from transformers import AutoModelForCausalLM

from nabla_core import Prompt
from nabla_core.embedded import task
from nabla_core.embedded.weights import ROOT
from nabla_core.models.flops import Shape
from nabla_core.models.identity import identify
from pipeline.cluster.config import Cluster
from pipeline.cluster.connection import shared
from tests.bench.arms import quiet
from tests.bench.distill.arms import ARMS, CORE, pairs
from tests.bench.distill.report import (
    Line,
    differences,
    figures,
    print_line,
    print_yields,
    yields,
)
from tests.bench.distill.sources import SEARCH, Source, sources
from tests.bench.distill.students import (
    GREEDY,
    Answers,
    Trained,
    answers,
    train,
    write_pairs,
    write_responses,
)

BATCH = 32
ROLES = ("lm", "judge", "head")
LENGTH = 33  # tokens of a prompt and a response that stops
DPO = ("optimise.warmup=0.1", "dpo.beta=0.1", "dpo.sft_weight=1", "validation.every=25")
DPO_STEPS = 150
VERIFIED = "search, verified"


class Bench:
    """The settings of a run, and where things are kept."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out: Path = options.out
        self.models: Path = options.models
        self.steps: int = options.steps
        self.rates: list[float] = options.rates
        self.seeds: list[int] = options.sft_seeds
        self.batch: int = options.batch
        self.test = task.prompts(options.test, seed=0, split="test")
        names = CORE if options.core else tuple(ARMS)
        self.arms = [n for n in names if not options.only or n in options.only]
        self.extra = not options.core and not options.only
        self._settings = {
            "prompts": options.prompts,
            "test": options.test,
            "steps": options.steps,
            "models": {r: identify(str(self.models / r), None).revision for r in ROLES},
        }
        prompts = task.prompts(options.prompts, seed=0, split="train")
        self._check_folder()
        self.sources: dict[str, Source] = self._sources(prompts)
        self._lm = str(self.models / "lm")
        model = AutoModelForCausalLM.from_pretrained(self._lm)
        shape = Shape.of(model.base_model, model.config, model.config.vocab_size)
        # Forward, and twice as much backward.
        self.row_flops = 3 * (shape.forward(LENGTH) + shape.head(LENGTH))

    def lines(self) -> Iterator[Line]:
        """All arms, each as soon as it is measured."""
        yield Line(name="base, greedy", answers=[self._answers("base", self._lm)])
        teacher = answers(
            self.out / "answers" / "teacher.json",
            self._lm,
            self.models,
            self.test,
            SEARCH,
            self.batch,
        )
        yield Line(name="teacher: search", answers=[teacher])
        students = {}
        for name in self.arms:
            line = self._student(name)
            students[name] = line
            yield line
        if self.extra and VERIFIED in students:
            yield from self._after(students[VERIFIED].trained[0])

    def _student(self, name: str) -> Line:
        data = ARMS[name](self.sources)
        folder = _folder_name(name)
        export = write_responses(self.out / "exports" / folder, data.rows)

        def student(rate: float, seed: int) -> Trained:
            run = self.out / "students" / folder / f"rate-{rate:g}-seed-{seed}"
            more = (f"validation.every={max(1, self.steps // 5)}",)
            return train(run, export, self._lm, rate=rate, seed=seed, steps=self.steps, more=more)

        first, *others = self.seeds
        chosen = max((student(rate, first) for rate in self.rates), key=lambda t: t.validation)
        trained = [chosen, *(student(chosen.rate, seed) for seed in others)]
        return Line(
            name=name,
            answers=[self._answers(f"{folder}-rate-{t.rate:g}-{t.seed}", t.path) for t in trained],
            trained=trained,
            rows=len(data.rows),
            generation=data.flops,
            training=self.row_flops * BATCH * self.steps,
        )

    def _after(self, base: Trained) -> Iterator[Line]:
        """DPO after SFT, and a search with the student."""
        rows = pairs(self.sources)
        export = write_pairs(self.out / "exports" / "pairs", rows)
        steps = min(DPO_STEPS, self.steps)
        runs = [
            train(
                self.out / "students" / "dpo" / f"rate-{rate / 10:g}",
                export,
                base.path,
                rate=rate / 10,
                seed=self.seeds[0],
                steps=steps,
                more=DPO,
            )
            for rate in self.rates
        ]
        chosen = max(runs, key=lambda t: t.validation)
        yield Line(
            name="DPO after SFT",
            answers=[self._answers(f"dpo-{chosen.rate:g}", chosen.path)],
            trained=[chosen],
            rows=len(rows),
            # The policy reads both responses forward and backward, the base forward.
            training=self.row_flops * BATCH * steps * 2 * 4 / 3,
        )
        path = self.out / "answers" / "student-search.json"
        searched = answers(path, base.path, self.models, self.test, SEARCH, self.batch)
        yield Line(name="verified student + search", answers=[searched])

    def _answers(self, name: str, lm: str) -> Answers:
        path = self.out / "answers" / f"{name}.json"
        return answers(path, lm, self.models, self.test, GREEDY, self.batch)

    def _sources(self, prompts: list[Prompt]) -> dict[str, Source]:
        return sources(self.out / "sources", self.models, prompts, self.batch)

    def _check_folder(self) -> None:
        path = self.out / "settings.json"
        if path.exists() and json.loads(path.read_text()) != self._settings:
            raise SystemExit(f"{path} has other settings: {path.read_text()}; give another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._settings))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.distill")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=ROOT)
    parser.add_argument("--prompts", type=int, default=8000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3])
    parser.add_argument("--sft-seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--only", nargs="+", choices=ARMS)
    parser.add_argument("--core", action="store_true")
    options = parser.parse_args()
    options.out, options.models = options.out.absolute(), options.models.absolute()
    quiet()
    bench = Bench(options)
    found = yields(bench.sources)
    print_yields(found)
    print(f"\n{len(bench.test)} unseen prompts, models {options.models.name}", flush=True)
    lines: dict[str, Line] = {}
    with shared(Cluster(), cpus=2):
        for line in bench.lines():
            print_line(line, header=not lines)
            lines[line.name] = line
    between = differences(lines)
    print()
    for name, (mean, low, high) in between.items():
        print(f"{name:60}{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    print(
        json.dumps(
            {
                "arms": {name: figures(line) for name, line in lines.items()},
                "differences": between,
                "yields": found,
            }
        )
    )


def _folder_name(arm: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in arm).strip("-")


if __name__ == "__main__":
    main()
