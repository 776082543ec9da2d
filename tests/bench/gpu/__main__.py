"""Sweeps on a GPU: their time over the card's floor, and whether traces equal those of the CPU.

    python -m tests.bench.gpu [--output results.json] [--rehearse]

`--rehearse` runs every step on the CPU with tiny models, to check the script without a card. Its
figures mean nothing.

1. The matmul rate of the card in bf16. The floor of a sweep is its estimated FLOPs over this rate.
2. From-config Qwen2 of 0.5B and 1.5B, random weights, V = 151,936, bf16, 512 response
   tokens, batch 1 and 16: seconds of a sweep and of its proposals, and peak memory.
3. The literal algorithm against the product on one response of 128 tokens (0.5B).
4. The embedded models: fp32 traces on the GPU equal to the CPU's; bf16 traces that differ.

Random models are sharpened until about a tenth of the positions are uncertain. The last
line is one JSON object with the same figures; it is also written to the file named.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers

from nabla_core import (
    DTO,
    NablaConfig,
    Prompt,
    Runtime,
    Sampling,
    Select,
    Trace,
    drive,
    load_engines,
    nabla,
)
from nabla_core.draws import DrawKey
from nabla_core.embedded import task
from nabla_core.engines.base import Engines
from nabla_core.requests import Context, Propose, Response, Sweep
from tests.bench.gpu.card import (
    CARD,
    REHEARSAL,
    Plan,
    matmul_rate,
    run_script,
    seconds,
    synchronize,
)
from tests.bench.shapes import Size, random_pair
from tests.oracle.literal import Literal, Models

PROMPT = 64
UNCERTAIN_SHARE = 0.1


def main() -> None:
    run_script("tests.bench.gpu", measure, card=CARD, rehearsal=REHEARSAL)


def measure(plan: Plan) -> dict[str, Any]:
    """Measure everything and print each row as soon as it is known."""
    rate = matmul_rate(plan)
    card = torch.cuda.get_device_name() if plan.device == "cuda" else "no card: a rehearsal"
    print(f"{card}: {rate / 1e12:.3g} TFLOP/s in {plan.dtype}, measured")
    print(
        f"{'model':7}{'batch':>6}{'sweep s':>9}{'floor s':>9}{'ratio':>7}{'propose s':>11}"
        f"{'candidates':>12}{'peak GiB':>10}"
    )
    rows = []
    for size in plan.sizes:
        for row in sweeps(size, rate, plan):
            rows.append(row)
            print(
                f"{row['model']:7}{row['batch']:6}{row['sweep_s']:9.3f}{row['floor_s']:9.4f}"
                f"{row['over_floor']:7.1f}{row['propose_s']:11.3f}{row['candidates']:12.1f}"
                f"{row['peak_gib']:10.1f}",
                flush=True,
            )
    literal = against_literal(plan)
    print(
        f"{plan.sizes[0].name}, {plan.literal_tokens} tokens: literal "
        f"{literal['literal_s']:.1f} s and {literal['literal_gradient_passes']} gradient passes, "
        f"product {literal['product_s']:.2f} s and {literal['product_gradient_passes']}; "
        f"same decisions: {literal['identical']}"
    )
    differ = embedded_traces(plan)
    print(
        f"embedded, {differ['prompts']} prompts: fp32 traces here and on the CPU differ in "
        f"{differ['fp32_differ']}, bf16 and fp32 in {differ['bf16_differ']}"
    )
    return {
        "card": card,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "matmul_tflops": rate / 1e12,
        "sweeps": rows,
        "literal": literal,
        "embedded": differ,
    }


def sweeps(size: Size, rate: float, plan: Plan) -> list[dict[str, Any]]:
    """Sweep and proposal times of one model size."""
    pair = random_pair(size, device=plan.device, dtype=plan.dtype)
    engines = pair.engines(Runtime(device=plan.device, reuse=False))
    return [{"model": size.name} | one_batch(engines, batch, rate, plan) for batch in (1, 16)]


def one_batch(engines: Engines, batch: int, rate: float, plan: Plan) -> dict[str, Any]:
    """Sweep `batch` responses at once, then make their proposals."""
    ids = min(size.vocabulary for size in plan.sizes) - 2
    plain = NablaConfig(proposals="second")
    asked = [request(i, plain, plan.tokens, ids) for i in range(batch)]
    threshold, found = confidence_quantile(engines, asked)
    config = NablaConfig(select=Select(confidence_threshold=threshold), rollout=Sampling(0))
    requests = [request(i, config, plan.tokens, ids) for i in range(batch)]
    sweeper: Any = engines.serving(Sweep)
    proposer: Any = engines.serving(Propose)
    if plan.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    sweep_s = seconds(lambda: sweeper.answer(requests))
    replies = sweeper.answer(requests)
    floor_s = sum(r.cost.flops for r in replies) / rate

    def propose() -> None:
        asked = []
        for i, reply in enumerate(replies):
            reply.value.gradients.plan = None
            key = DrawKey(0, str(i), 0, "resample")
            asked.append(Propose(reply.value.gradients, 0, 1, key))
        proposer.answer(asked)

    return {
        "batch": batch,
        "sweep_s": sweep_s,
        "floor_s": floor_s,
        "over_floor": sweep_s / floor_s,
        "propose_s": seconds(propose, repeats=3),
        "candidates": found,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if plan.device == "cuda" else 0.0,
    }


def request(i: int, config: NablaConfig, tokens: int, ids: int) -> Sweep:
    """A sweep of a random response to a random prompt."""
    generator = torch.Generator().manual_seed(i)
    drawn = torch.randint(0, ids, (PROMPT + tokens,), generator=generator).tolist()
    frame = (tuple(drawn[:PROMPT]), ())
    context = Context("", frame[0], frame, frame)
    return Sweep(context, Response(tuple(drawn[PROMPT:]), "length"), 0, config)


def confidence_quantile(engines: Engines, requests: list[Sweep]) -> tuple[float, float]:
    """The threshold that a tenth of the positions pass, and how many that is per response."""
    sweeper: Any = engines.serving(Sweep)
    replies = sweeper.answer(requests)
    confidence = torch.cat([r.value.gradients.lm.likelihood.confidence for r in replies])
    threshold = float(confidence.quantile(UNCERTAIN_SHARE))
    return threshold, float((confidence <= threshold).sum()) / len(requests)


def against_literal(plan: Plan) -> dict[str, Any]:
    """One greedy response through both; fp32, so that decisions can agree."""
    pair = random_pair(plan.sizes[0], device=plan.device, dtype=torch.float32, sharpness=8.0)
    engines = pair.engines(Runtime(device=plan.device))
    words = pair.tokenizer
    text = " ".join(f"t{17 * i % 1000}" for i in range(PROMPT))
    config = NablaConfig(
        rollout=Sampling(0),
        resample=Sampling(0),
        dto=DTO(learning_rate=0.1),
        select=Select(confidence_threshold=0.5),
        max_rollouts=2,
    )
    synchronize()
    started = time.perf_counter()
    flows = [nabla(Prompt.of(text, id="p"), config, max_tokens=plan.literal_tokens)]
    (trace,) = drive(flows, engines)
    synchronize()
    product_s = time.perf_counter() - started
    models = Models(pair.lm, pair.rm, pair.rm, plan.sizes[0].vocabulary - 1)
    literal = Literal(models, config, seed=0, max_tokens=plan.literal_tokens)
    with torch.device(plan.device):
        started = time.perf_counter()
        outcome = literal.run("p", words.encode(text))
        synchronize()
    literal_s = time.perf_counter() - started
    mine = [(r.position, r.to_token, r.accepted) for r in trace.revisions]
    theirs = [(d.position, d.to_token, d.accepted) for d in outcome.decisions]
    return {
        "identical": mine == theirs and list(trace.tokens) == outcome.tokens,
        "decisions": len(theirs),
        "literal_s": literal_s,
        "product_s": product_s,
        "literal_gradient_passes": outcome.gradient_passes,
        "product_gradient_passes": trace.cost.rm_backward,
    }


def embedded_traces(plan: Plan, count: int = 256) -> dict[str, int]:
    """Decisions of the embedded models on the CPU and here in fp32, and here in bf16."""
    runs = {
        name: decisions(load_engines(runtime=runtime), count)
        for name, runtime in (
            ("cpu", Runtime(device="cpu")),
            ("here", Runtime(device=plan.device)),
            ("bf16", Runtime(device=plan.device, dtype="bfloat16")),
        )
    }
    return {
        "prompts": count,
        "fp32_differ": sum(runs["cpu"][p] != runs["here"][p] for p in runs["cpu"]),
        "bf16_differ": sum(runs["here"][p] != runs["bf16"][p] for p in runs["here"]),
    }


def decisions(engines: Engines, count: int) -> dict[str, Any]:
    """What was decided for each prompt, numbers left out."""
    config = NablaConfig(
        rollout=Sampling(0),
        resample=Sampling(0),
        dto=DTO(learning_rate=0.3),
        select=Select(confidence_threshold=0.98),
    )
    prompts = task.prompts(count, seed=0, split="test")

    def essence(trace: Trace) -> tuple[Any, ...]:
        return trace.tokens, [(r.position, r.to_token, r.accepted) for r in trace.revisions]

    flows = (nabla(p, config, max_tokens=20) for p in prompts)
    return {trace.prompt_id: essence(trace) for trace in drive(flows, engines)}


if __name__ == "__main__":
    main()
