"""Cost of the literal algorithm and of the product for the same decisions.

    python -m tests.bench.passes.speed [prompts] [regime ...]

Every regime asserts equal outputs, then compares three costs per prompt:

- gradient passes: one sequence forward and backward through LM and guide. The literal side takes
  one to select and one to optimise at every uncertain position, and one at every flip of a hard
  token, not one at every optimiser step;
- FLOPs: one formula for both (nabla_core.models.flops);
- CPU seconds: process time, one thread; the product in batches of 32.

For the regimes "accepted" and "rejected", prompts are chosen from a larger set: those where the
product accepted at least half, or at most a quarter, of at least two proposals. In "accepted",
"flips" and "sampled" logits move far enough for argmaxes to flip. "rejected" and "many" are near
the published settings, where a flip is rare; in "rejected" every position is a candidate. The last
line is one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from nabla_core import (
    DTO,
    NablaConfig,
    Prompt,
    Reward,
    Runtime,
    Sampling,
    Select,
    Trace,
    drive,
    load_engines,
    nabla,
)
from nabla_core.embedded import task
from nabla_core.embedded.weights import folder
from nabla_core.engines.base import Engines
from nabla_core.models.flops import Shape
from tests.bench.arguments import show_help
from tests.bench.arms import GREEDY, UNCERTAIN, quiet
from tests.bench.shapes import TINY, random_pair
from tests.oracle.literal import Literal, Models, Outcome

BATCH = 32
FLIPS = DTO(learning_rate=0.3)
BASE = NablaConfig(rollout=GREEDY, resample=GREEDY, select=UNCERTAIN, dto=FLIPS)
REJECTED = NablaConfig(
    rollout=GREEDY, resample=Sampling(1.0), select=Select(1.0), dto=DTO(learning_rate=0.01)
)


@dataclass
class Bench:
    """Models for both sides and the prompts of one regime."""

    engines: Engines
    models: Models
    tokenizer: Any
    prompts: Sequence[Prompt]
    config: NablaConfig
    max_tokens: int


def main() -> None:
    show_help(__doc__)
    quiet()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    regimes = sys.argv[2:] or list(REGIMES)
    print(
        f"{count} prompts per regime, product in batches of {BATCH}, one CPU thread, fp32\n"
        f"{'regime':10}{'gradient passes':>18}{'ratio':>7}{'MFLOP':>16}{'ratio':>7}"
        f"{'CPU s per prompt':>18}{'ratio':>7}  identical"
    )
    report = {}
    for name in regimes:
        row = compare(REGIMES[name](count))
        report[name] = row
        theirs, mine = row["literal"], row["product"]
        print(
            f"{name:10}{theirs['gradient_passes']:10.1f} ->{mine['gradient_passes']:5.1f}"
            f"{row['gradient_passes_ratio']:7.1f}"
            f"{theirs['flops'] / 1e6:9.0f} ->{mine['flops'] / 1e6:4.0f}"
            f"{row['flops_ratio']:7.1f}"
            f"{theirs['cpu']:9.2f} -> {mine['cpu']:.3f}{row['cpu_ratio']:7.1f}"
            f"  {row['identical']}",
            flush=True,
        )
    print(json.dumps(report))
    if not all(row["identical"] for row in report.values()):
        raise SystemExit("outputs differ: no figure above may be quoted")


def compare(bench: Bench) -> dict[str, Any]:
    """Run both sides over the prompts."""
    drain(bench)
    started = time.process_time()
    traces = drain(bench)
    product_cpu = time.process_time() - started
    started = time.process_time()
    literal = Literal(
        bench.models, bench.config, seed=0, max_tokens=bench.max_tokens, every_step=False
    )
    outcomes = {p.id: literal.run(p.id, bench.tokenizer.encode(p.text)) for p in bench.prompts}
    literal_cpu = time.process_time() - started
    n = len(bench.prompts)
    shapes = _shapes(bench.models)
    theirs = {
        "gradient_passes": sum(o.gradient_passes for o in outcomes.values()) / n,
        "flops": sum(_flops(o, *shapes) for o in outcomes.values()) / n,
        "cpu": literal_cpu / n,
    }
    mine = {
        "gradient_passes": sum(t.cost.rm_backward for t in traces.values()) / n,
        "flops": sum(t.cost.flops for t in traces.values()) / n,
        "cpu": product_cpu / n,
    }
    return {
        "identical": all(_same(traces[p], outcomes[p]) for p in outcomes),
        "prompts": n,
        "proposals": sum(len(o.decisions) for o in outcomes.values()) / n,
        "accepted": sum(d.accepted for o in outcomes.values() for d in o.decisions) / n,
        **{f"{name}_ratio": round(theirs[name] / mine[name], 2) for name in mine},
        "literal": {k: round(v, 4) for k, v in theirs.items()},
        "product": {k: round(v, 4) for k, v in mine.items()},
    }


def drain(bench: Bench) -> dict[str, Trace]:
    """The product's traces by prompt."""
    flows = (nabla(p, bench.config, max_tokens=bench.max_tokens) for p in bench.prompts)
    return {t.prompt_id: t for t in drive(flows, bench.engines, in_flight=3 * BATCH)}


def _same(trace: Trace, outcome: Outcome) -> bool:
    mine = [(r.position, r.from_token, r.to_token, r.accepted) for r in trace.revisions]
    theirs = [(d.position, d.from_token, d.to_token, d.accepted) for d in outcome.decisions]
    return mine == theirs and list(trace.tokens) == outcome.tokens


def _shapes(models: Models) -> tuple[Shape, Shape]:
    lm = Shape.of(models.lm.model, models.lm.config, models.lm.config.vocab_size)
    return lm, Shape.of(models.guide.model, models.guide.config, models.lm.config.vocab_size)


def _flops(outcome: Outcome, lm: Shape, rm: Shape) -> float:
    """FLOPs of the literal algorithm, the products of one-hots and embedding tables included."""
    total = 0.0
    for (kind, length), count in outcome.passes.items():
        shape = lm if kind.startswith("lm") else rm
        one = shape.forward(length) + (shape.head(length) if shape is lm else 0.0)
        if kind.endswith("gradient"):
            one += shape.backward(length) + (shape.head(length) if shape is lm else 0.0)
            one += 2 * shape.head(length)
        total += count * one
    return total


# Regimes ---------------------------------------------------------------------------------


def embedded(count: int, config: NablaConfig, *, kept: tuple[float, float] | None = None) -> Bench:
    """The embedded models. `kept` bounds the share of accepted proposals of the prompts."""
    lm, judge, guide = folder("lm"), folder("judge"), folder("guide")
    engines = load_engines(
        reward=Reward("embedded", guide="embedded"), runtime=Runtime(max_batch=BATCH)
    )

    def load(auto: Any, path: Any) -> Any:
        return auto.from_pretrained(path).eval().requires_grad_(False)

    language = load(AutoModelForCausalLM, lm)
    models = Models(
        language,
        load(AutoModelForSequenceClassification, guide),
        load(AutoModelForSequenceClassification, judge),
        language.generation_config.eos_token_id,
    )
    many = task.prompts(count if kept is None else 20 * count, seed=0, split="validation")
    bench = Bench(engines, models, AutoTokenizer.from_pretrained(lm), many, config, 20)
    if kept is not None:
        traces = drain(bench)
        shares = {
            p: sum(r.accepted for r in t.revisions) / len(t.revisions)
            for p, t in traces.items()
            if len(t.revisions) >= 2
        }
        low, high = kept
        bench.prompts = [p for p in many if low <= shares.get(p.id, -1.0) <= high][:count]
    return bench


def many_candidates(count: int) -> Bench:
    """Random models, responses of 64 tokens of which about 40 are uncertain."""
    size = replace(TINY, vocabulary=512)
    pair = random_pair(size, device="cpu", dtype=torch.float32, sharpness=6.0, rm_layers=6)
    config = NablaConfig(
        rollout=GREEDY,
        resample=GREEDY,
        select=Select(confidence_threshold=0.75),
        dto=DTO(learning_rate=0.01),
    )
    models = Models(pair.lm, pair.rm, pair.rm, size.vocabulary - 1)
    prompts = [
        Prompt.of(" ".join(f"t{(31 * i + 7 * k) % 500}" for k in range(16)), id=f"random/{i}")
        for i in range(count)
    ]
    engines = pair.engines(Runtime(max_batch=BATCH))
    return Bench(engines, models, pair.tokenizer, prompts, config, 64)


REGIMES: dict[str, Callable[[int], Bench]] = {
    "accepted": lambda n: embedded(n, BASE, kept=(0.5, 1.0)),
    "rejected": lambda n: embedded(n, REJECTED, kept=(0.0, 0.25)),
    "many": many_candidates,
    "flips": lambda n: embedded(n, replace(BASE, dto=DTO(learning_rate=0.1, max_iters=50))),
    "sampled": lambda n: embedded(
        n, replace(BASE, rollout=Sampling(0.6, 0.95), resample=Sampling(0.5))
    ),
}


if __name__ == "__main__":
    main()
