"""A student of each data set, by `nabla distill`, and its greedy answers to unseen prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nabla_core import Prompt, drive, flow, load_engines
from nabla_core.config import Decoding
from nabla_core.embedded import task
from nabla_core.embedded.tokenizer import build, decode, encode
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.text.fingerprint import fingerprint
from pipeline.config import load
from pipeline.distill.config import DistillConfig
from pipeline.distill.job import distill
from tests.bench.arms import MAX_TOKENS
from tests.bench.distill.sources import Row
from tests.pipeline.distill.exported import write_export

CONFIG = Path(__file__).parents[3] / "configs" / "distill_embedded.yaml"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Of each prompt, whether the last digit and every step is right and whether the response
    stopped by itself; FLOPs and model calls a prompt."""

    answer: list[bool]
    trace: list[bool]
    stopped: list[bool]
    flops: float
    calls: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A student: its folder, the accuracy that its checkpoint was chosen by, and its settings."""

    path: str
    validation: float
    rate: float
    seed: int
    step: int
    steps: int


def write_responses(out: Path, rows: Sequence[Row]) -> Path:
    """A dataset folder of the tokens that were generated."""
    if (out / "_SUCCESS").exists():
        return out
    made = []
    for row in rows:
        prompt = encode(row.prompt)
        labels = [-100] * len(prompt) + row.tokens
        made.append({"input_ids": prompt + row.tokens, "labels": labels, "prompt_id": row.id})
    return write_export(out, made, format="tokens", layout=None, tokenizer=fingerprint(build()))


def write_pairs(out: Path, rows: Sequence[Row]) -> Path:
    """A dataset folder of pairs: the last response of a search against the first."""
    if (out / "_SUCCESS").exists():
        return out

    def said(tokens: Sequence[int]) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": decode(tokens)}]

    made = [
        {
            "prompt": [{"role": "user", "content": row.prompt}],
            "chosen": said(row.tokens),
            "rejected": said(row.base or []),
            "prompt_id": row.id,
        }
        for row in rows
    ]
    return write_export(out, made, format="preference", layout=None)


def train(
    run: Path, export: Path, base: str, *, rate: float, seed: int, steps: int, more: Sequence[str]
) -> Trained:
    """Train a student in the folder `run`, or find it there."""
    config = load(
        DistillConfig,
        [CONFIG],
        [
            *(f"run_dir={run}", f"data.exports=[{export}]", f"student.path={base}"),
            "export.run_dir=[]",
            *(f"optimise.learning_rate={rate}", f"seed={seed}", f"optimise.steps={steps}"),
            *("data.held_out=0", *more),
        ],
    )
    card = distill(config, lambda measurement: None, lambda progress: None).card
    return Trained(
        path=str(run / "student"),
        validation=card["metrics"]["accuracy"],
        rate=rate,
        seed=seed,
        step=card["chosen_step"],
        steps=steps,
    )


def answers(
    path: Path, lm: str, models: Path, prompts: Sequence[Prompt], decoding: Decoding, batch: int
) -> Answers:
    """The answers of an LM under a method; kept in the file `path`."""

    def make() -> Answers:
        guide = str(models / "head") if decoding.method == "nabla" else None
        reward = Reward(str(models / "judge"), guide=guide)
        engines = load_engines(LM(lm), reward, Runtime(max_batch=batch))
        place = {p.id: n for n, p in enumerate(prompts)}
        grades: list[Any] = [None] * len(prompts)
        flops = calls = 0.0
        flows = (flow(p, decoding) for p in prompts)
        for t in drive(flows, engines, in_flight=3 * batch):
            grade = task.grade(t.prompt_text, t.text)
            grades[place[t.prompt_id]] = (grade.answer, grade.trace, t.finish_reason == "stop")
            flops += t.cost.flops
            calls += t.cost.paper_calls
        answer, trace, stopped = (list(column) for column in zip(*grades, strict=True))
        return Answers(
            answer=answer,
            trace=trace,
            stopped=stopped,
            flops=flops / len(prompts),
            calls=calls / len(prompts),
        )

    return kept(path, make)


def kept(path: Path, make: Callable[[], Answers]) -> Answers:
    """What the file holds; made and written if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(make())))
        temporary.rename(path)
    return Answers(**json.loads(path.read_text()))


GREEDY = Decoding("greedy", MAX_TOKENS)
