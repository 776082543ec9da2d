"""Judges that were retrained on what fooled the last one: do they hold, and do searches gain?

    python -m tests.bench.judges --out DIR [--train 3000] [--test 2000] [--steps 500] [--batch 64]
                                 [--learning-rate 1e-4] [--rounds 2] [--models DIR] [--seed 0]

For each label (`final`: the answer is right; `steps`: also every step) and each round:

1. run folders of `--train` prompts of the train split: samples of the LM at temperature .4, .7, 1
   and 1.3 and guided decoding (made once), and against the judge of the round before: the search, a
   wide one (min_score -6), one in which the judge alone accepts, one whose draft and tails are
   guided, and the null arm;
2. a judge, trained as `nabla train-judge` trains it, from the judge of the round before, on the
   folders of all rounds so far. It is delivered with its own scale, and with that of the shipped
   judge (`goal.scale=std`).

Each judge is measured on `--test` unseen prompts: AUC of its reward on fresh samples (the unbiased
best-of-N curve comes from the same ones), on guided decoding, and on the outputs of the null arm,
the search, the wide one and the one with guided tails against it, with their accuracies, paired
with those of the shipped judge.

Everything is kept in DIR: the same command continues. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nabla_core import Decoding, Prompt, Reward, Runtime, Sampling, drive, flow, load_engines
from nabla_core.embedded import task
from nabla_core.embedded.weights import ROOT
from nabla_core.engines.base import Engines
from nabla_core.judge_training.evaluation import JudgedAnswer, auc, best_of_n_curve
from nabla_core.model_config import LM
from nabla_core.types import Trace
from pipeline.config import load
from pipeline.generate.recipe import TraceMaker, TraceRecipe
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Item, fingerprint
from pipeline.store.final import SUCCESS
from pipeline.tables.traces import key_columns
from pipeline.train_judge.config import Scale, TrainJudgeConfig
from pipeline.train_judge.setup import Assembled, assemble, deliver
from tests.bench.arms import MAX_TOKENS, Interval, guided_arm, quiet, ranked_arm
from tests.bench.gain import (
    BETA,
    MIN_SCORE,
    NULL_MIN_SCORE,
    NULL_REWARD_WEIGHT,
    REWARD_WEIGHT,
)
from tests.pipeline.export.runs import write_run

TEMPERATURES = (0.4, 0.7, 1.0, 1.3)
LABELS = ("final", "steps")
SCALES: tuple[Scale, ...] = ("free", "std")
SAMPLES = 64
SEARCHES = {
    "null": ranked_arm(None, NULL_MIN_SCORE, NULL_REWARD_WEIGHT),
    "search": ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT),
    "wide": ranked_arm(BETA, -6.0, REWARD_WEIGHT),
    "alone": ranked_arm(BETA, -2.0, 0.0),
    "tails": ranked_arm(
        BETA, MIN_SCORE, REWARD_WEIGHT, rollout=Sampling(temperature=0, beta=1 / 4)
    ),
}
# No judge has a part in it: all of them read the same responses.
GUIDED = guided_arm(1 / 4)
MEASURED = ("null", "search", "wide", "tails", "guided")


@dataclass(frozen=True)
class Bench:
    """The settings of the bench."""

    out: Path
    models: Path
    train: int
    test: int
    steps: int
    batch: int
    learning_rate: float
    rounds: int
    seed: int
    max_batch: int

    def engines(self, judge: Path, guide: str | None) -> Engines:
        """The LM with a judge; `guide` is a folder of `models`."""
        return load_engines(
            LM(str(self.models / "lm")),
            Reward(str(judge), guide=str(self.models / guide) if guide else None),
            Runtime(max_batch=self.max_batch),
        )

    @property
    def shipped(self) -> Path:
        """The judge of round 0."""
        return self.models / "judge"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.judges")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=ROOT)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-batch", type=int, default=256)
    bench = Bench(**vars(parser.parse_args()))
    quiet()
    results = {"shipped": measured(bench, "shipped", bench.shipped)}
    show("shipped", results["shipped"], results["shipped"], header=True)
    for name, folder in judges(bench):
        results[name] = measured(bench, name, folder)
        show(name, results[name], results["shipped"])
    print(json.dumps({name: _rounded(one, results["shipped"]) for name, one in results.items()}))


def judges(bench: Bench) -> Iterator[tuple[str, Path]]:
    """Every retrained judge with its name, round by round."""
    last = dict.fromkeys(LABELS, bench.shipped)
    data: dict[str, list[str]] = {label: list(samples(bench)) for label in LABELS}
    for number in range(1, bench.rounds + 1):
        for label in LABELS:
            # In the first round all labels learn from searches against the shipped judge.
            source = "shipped" if number == 1 else f"{label}-{number - 1}"
            data[label] += searches(bench, source, last[label])
            name = f"{label}-{number}"
            folders = trained(bench, name, label, last[label], data[label])
            for scale, folder in folders.items():
                yield f"{name}-{scale}", folder
            last[label] = folders["std"]


def samples(bench: Bench) -> Iterator[str]:
    """Run folders of the LM's samples, and of guided decoding."""
    yield generated(bench, "guided", GUIDED, bench.shipped, "head")
    for temperature in TEMPERATURES:
        decoding = Decoding("sample", MAX_TOKENS, sample=Sampling(temperature=temperature))
        yield generated(bench, f"samples-{temperature:g}", decoding, bench.shipped, None)


def searches(bench: Bench, source: str, judge: Path) -> list[str]:
    """Run folders of searches against a judge."""
    return [
        generated(bench, f"{name}-{source}", decoding, judge, _guide(name))
        for name, decoding in SEARCHES.items()
    ]


def generated(bench: Bench, name: str, decoding: Decoding, judge: Path, guide: str | None) -> str:
    """A run folder of train prompts, as `nabla generate` writes it, made without Ray."""
    path = bench.out / "runs" / name
    if not (path / SUCCESS).exists():
        print(f"generating {name}", flush=True)
        recipe = TraceRecipe(
            lm=LM(), reward=Reward(), decoding=decoding, runtime=Runtime(),
            verify=Verify("embedded"), seed=bench.seed, config_hash="bench",
        )  # fmt: skip
        maker = TraceMaker(recipe, bench.engines(judge, guide))
        prompts = task.prompts(bench.train, seed=bench.seed, split="train")
        by_id = {prompt.id: prompt for prompt in prompts}
        flows = (maker.flow(prompt) for prompt in prompts)
        made: dict[str, Trace] = {
            t.prompt_id: t for t in drive(flows, maker.engines, in_flight=3 * bench.max_batch)
        }
        rows = []
        for prompt in prompts:
            item = Item(prompt, fingerprint(prompt))
            row = maker.row(by_id[prompt.id], made[prompt.id])
            rows.append({**row, **key_columns(item, "bench", 1, None)})
        write_run(path, rows)
    return str(path)


def trained(
    bench: Bench, name: str, label: str, start: Path, runs: Sequence[str]
) -> dict[Scale, Path]:
    """The folders of a judge, by its scale."""
    found: dict[Scale, Path] = {scale: bench.out / "judges" / f"{name}-{scale}" for scale in SCALES}
    done = bench.out / "judges" / f"{name}.json"
    if not done.exists():
        print(f"training {name}", flush=True)
        config = load(
            TrainJudgeConfig,
            (),
            [
                *(f"data.runs={json.dumps(list(runs))}", f"run_dir={bench.out / 'unused'}"),
                *(f"lm.path={bench.models / 'lm'}", f"reward.judge={bench.shipped}"),
                *(f"start.path={start}", f"goal.answers={label}", "goal.loss=bce"),
                *(f"optimise.steps={bench.steps}", f"optimise.batch={bench.batch}"),
                *(f"optimise.micro_batch={bench.batch}", f"seed={bench.seed}"),
                *(f"optimise.learning_rate={bench.learning_rate}", "validation.samples=0"),
                *("validation.search=false", "validation.metric=auc", "validation.max_tokens=20"),
                *("validation.prompts.limit=200", "validation.verify.method=embedded"),
                f"runtime.max_batch={bench.max_batch}",
            ],
        )
        assembled = assemble(config, torch.device("cpu"))
        trainer = assembled.trainer(str(bench.out / "trainer"), cpu=True, callbacks=[])
        trainer.train()
        checkpoint = bench.out / "judges" / f"{name}-raw"
        trainer.save_model(str(checkpoint))
        factors = {
            scale: _deliver(assembled, scale, checkpoint, folder) for scale, folder in found.items()
        }
        done.write_text(json.dumps({"factors": factors, **assembled.describe(trainer)["data"]}))
    return found


def _deliver(assembled: Assembled, scale: Scale, checkpoint: Path, folder: Path) -> float:
    config = assembled.config
    goal = replace(config.goal, scale=scale)
    scaled = replace(assembled, config=replace(config, goal=goal))
    return deliver(scaled, scaled.examiner(), checkpoint, folder)[0]


def measured(bench: Bench, name: str, judge: Path) -> dict[str, Any]:
    """The figures of a judge on test prompts, from their file if it is there."""
    prompts = task.prompts(bench.test, seed=bench.seed, split="test")
    # A factor changes no order of rewards.
    unscaled = name.removesuffix("-std").removesuffix("-free")
    found: dict[str, Any] = {
        "fresh": _kept(bench, f"{unscaled}-fresh", lambda: fresh(bench, judge, prompts))
    }
    for arm in MEASURED:

        def search(arm: str = arm) -> dict[str, Any]:
            return searched(bench, judge, arm, prompts)

        found[arm] = _kept(bench, f"{name}-{arm}", search)
    return found


def _kept(bench: Bench, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    path = bench.out / "measured" / f"{name}.json"
    if not path.exists():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def fresh(bench: Bench, judge: Path, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """AUC and best-of-N curve on samples of the LM at temperature .7: as many as the curve needs of
    the first prompts, and eight of all."""
    engines = bench.engines(judge, None)
    decoding = Decoding("sample", MAX_TOKENS, sample=Sampling(temperature=0.7))
    few = prompts[: max(1, len(prompts) // 8)]
    curve = _sampled(engines, few, decoding, SAMPLES, bench)
    eight = [*_sampled(engines, prompts[len(few) :], decoding, 8, bench)]
    by_prompt: dict[Any, list[JudgedAnswer]] = {}
    for answer in [*curve, *eight]:
        by_prompt.setdefault(answer.prompt, []).append(answer)
    return {
        "auc": auc(eight or curve),
        "best_of": best_of_n_curve(curve, (1, 2, 4, 8, 16, 32, 64)),
        # Unbiased for each prompt, whether it has 8 or 64 samples.
        "answer": [best_of_n_curve(by_prompt[p.id], (8,))[8] for p in prompts],
    }


def _sampled(
    engines: Engines, prompts: Sequence[Prompt], decoding: Decoding, count: int, bench: Bench
) -> list[JudgedAnswer]:
    flows = (
        flow(replace(prompt, sample=sample), decoding, seed=bench.seed)
        for prompt in prompts
        for sample in range(count)
    )
    traces = drive(flows, engines, in_flight=3 * bench.max_batch)
    return [_judged(trace) for trace in traces]


def searched(bench: Bench, judge: Path, arm: str, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """AUC on the outputs of a search against the judge, and which prompts it has right."""
    engines = bench.engines(judge, _guide(arm))
    decoding = GUIDED if arm == "guided" else SEARCHES[arm]
    flows = (flow(prompt, decoding, seed=bench.seed) for prompt in prompts)
    judged = [_judged(trace) for trace in drive(flows, engines, in_flight=3 * bench.max_batch)]
    right = {answer.prompt: answer.right for answer in judged}
    return {"auc": auc(judged), "answer": [float(right[prompt.id]) for prompt in prompts]}


def _judged(trace: Trace) -> JudgedAnswer:
    assert trace.reward is not None, "every method here asks the judge"
    right = task.grade(trace.prompt_text, trace.text).answer
    return JudgedAnswer(trace.prompt_id, trace.reward, right)


def _guide(arm: str) -> str | None:
    return None if arm == "null" else "head"


def show(
    name: str, found: dict[str, Any], shipped: dict[str, Any], *, header: bool = False
) -> None:
    """Print a row of the table: AUC, then accuracy and its difference from the shipped judge."""
    columns = ("fresh", *MEASURED)
    if header:
        print(f"{'judge':16}" + "".join(f"{f'AUC {c}':>11}" for c in columns), end="")
        names = ("best of 8", *MEASURED)
        print("".join(f"{f'{c}, minus shipped':>34}" for c in names))
    row = f"{name:16}" + "".join(f"{found[c]['auc'] or 0:11.3f}" for c in columns)
    for c in columns:
        accuracy, gain = _accuracy(found[c], shipped[c])
        row += f"{f'{accuracy}, {gain.mean:+.3f} ± {gain.half:.3f}':>34}"
    print(row, flush=True)


def _accuracy(one: dict[str, Any], other: dict[str, Any]) -> tuple[Interval, Interval]:
    gain = [a - b for a, b in zip(one["answer"], other["answer"], strict=True)]
    return Interval.of(one["answer"]), Interval.of(gain)


def _rounded(found: dict[str, Any], shipped: dict[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for column, one in found.items():
        accuracy, gain = _accuracy(one, shipped[column])
        figures[column] = {
            "auc": None if one["auc"] is None else round(one["auc"], 4),
            "accuracy": accuracy.triple(),
            "minus_shipped": gain.triple(),
        }
    curve = found["fresh"]["best_of"]
    figures["fresh"]["best_of"] = {n: round(value, 4) for n, value in curve.items()}
    return figures


if __name__ == "__main__":
    main()
