"""Sweeps on a GPU: how near the card's floor, and whether the traces stay the same.

    python -m tests.bench.gpu [output.json]

1. The card's matmul rate in bf16, measured; a sweep's floor is its estimated FLOPs over it.
2. From-config Qwen2 of 0.5B and 1.5B, random weights, V = 151,936, bf16, 512 response
   tokens, batch 1 and 16: seconds of a sweep and of its proposals, and peak memory.
3. The literal algorithm against the product on one response of 128 tokens (0.5B).
4. The embedded models: fp32 traces on the GPU equal to the CPU's; bf16 traces that differ.

Random models are sharpened until about a tenth of the positions are uncertain. The last
line is one JSON object with the same figures; it is also written to the file named.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from nabla_core import (
    DTO,
    LM,
    Engine,
    NablaConfig,
    Reward,
    Sampling,
    Select,
    Trace,
    drive,
    load_engines,
    nabla,
)
from nabla_core.draws import DrawKey
from nabla_core.embedded import task
from nabla_core.embedded.weights import folder
from nabla_core.engines.base import Engines
from nabla_core.requests import Context, Propose, Response, Sweep
from tests.bench.shapes import HALF_B, ONE_AND_A_HALF_B, Size, random_pair
from tests.oracle.literal import Literal, Models

PROMPT, TOKENS = 64, 512
UNCERTAIN_SHARE = 0.1


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA GPU; none is visible")
    report: dict[str, Any] = {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "matmul_tflops_bf16": matmul_rate() / 1e12,
    }
    print(f"{report['card']}: {report['matmul_tflops_bf16']:.0f} TFLOP/s in bf16, measured")
    report["sweeps"] = []
    print(
        f"{'model':7}{'batch':>6}{'sweep s':>9}{'floor s':>9}{'ratio':>7}{'propose s':>11}"
        f"{'candidates':>12}{'peak GiB':>10}"
    )
    for size in (HALF_B, ONE_AND_A_HALF_B):
        for row in sweeps(size, report["matmul_tflops_bf16"] * 1e12):
            report["sweeps"].append(row)
            print(
                f"{row['model']:7}{row['batch']:6}{row['sweep_s']:9.3f}{row['floor_s']:9.4f}"
                f"{row['over_floor']:7.1f}{row['propose_s']:11.3f}{row['candidates']:12.1f}"
                f"{row['peak_gib']:10.1f}",
                flush=True,
            )
        torch.cuda.empty_cache()
    report["literal"] = against_literal()
    print(
        f"0.5B, 128 tokens: literal {report['literal']['literal_s']:.1f} s and "
        f"{report['literal']['literal_gradient_passes']} gradient passes, product "
        f"{report['literal']['product_s']:.2f} s and "
        f"{report['literal']['product_gradient_passes']}; "
        f"same decisions: {report['literal']['identical']}"
    )
    report["embedded"] = embedded_traces()
    differ = report["embedded"]
    print(
        f"embedded, {differ['prompts']} prompts: fp32 GPU and CPU traces differ in "
        f"{differ['fp32_differ']}, bf16 and fp32 in {differ['bf16_differ']}"
    )
    line = json.dumps(report)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(line + "\n")
    print(line)


def matmul_rate() -> float:
    """FLOP/s of an 8192-cube product of random bf16 matrices."""
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, repeats=20)


def seconds(work: Callable[[], Any], repeats: int = 7) -> float:
    """Median seconds of a piece of device work, after two warm-ups."""
    times = []
    for i in range(repeats + 2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if i >= 2:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def sweeps(size: Size, rate: float) -> list[dict[str, Any]]:
    """Sweep and proposal times of one model size."""
    pair = random_pair(size, device="cuda", dtype=torch.bfloat16)
    engines = pair.engines(Engine(device="cuda", dtype="bfloat16", reuse=False))
    return [{"model": size.name} | one_batch(engines, batch, rate) for batch in (1, 16)]


def one_batch(engines: Engines, batch: int, rate: float) -> dict[str, Any]:
    """Sweep `batch` responses at once, then make their proposals."""
    threshold, found = confidence_quantile(engines, batch)
    config = NablaConfig(select=Select(confidence_threshold=threshold), rollout=Sampling(0))
    requests = [request(i, config) for i in range(batch)]
    sweeper: Any = engines.serving(Sweep)
    proposer: Any = engines.serving(Propose)
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
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def request(i: int, config: NablaConfig, tokens: int = TOKENS) -> Sweep:
    """A sweep of a random response to a random prompt."""
    generator = torch.Generator().manual_seed(i)
    ids = torch.randint(0, 150_000, (PROMPT + tokens,), generator=generator).tolist()
    frame = (tuple(ids[:PROMPT]), ())
    context = Context("", frame[0], frame, frame)
    return Sweep(context, Response(tuple(ids[PROMPT:]), "length"), 0, config)


def confidence_quantile(engines: Engines, batch: int) -> tuple[float, float]:
    """The threshold that a tenth of the positions pass, and how many that is per response."""
    config = NablaConfig(proposals="second")
    requests = [request(i, config) for i in range(batch)]
    replies = engines.serving(Sweep).answer(requests)  # type: ignore[attr-defined]
    confidence = torch.cat([r.value.gradients.lm.says.confidence for r in replies])
    threshold = float(confidence.quantile(UNCERTAIN_SHARE))
    return threshold, float((confidence <= threshold).sum()) / batch


def against_literal() -> dict[str, Any]:
    """One greedy response of 128 tokens through both; fp32, so that decisions can agree."""
    pair = random_pair(HALF_B, device="cuda", dtype=torch.float32, sharpness=8.0)
    engines = pair.engines(Engine(device="cuda"))
    words = pair.tokenizer
    text = " ".join(f"t{17 * i % 1000}" for i in range(PROMPT))
    config = NablaConfig(
        rollout=Sampling(0),
        resample=Sampling(0),
        dto=DTO(learning_rate=0.1),
        select=Select(confidence_threshold=0.5),
        max_rollouts=2,
    )
    prompt = task.Prompt.of(text, id="p")
    torch.cuda.synchronize()
    started = time.perf_counter()
    (trace,) = drive([nabla(prompt, config, max_tokens=128)], engines)
    torch.cuda.synchronize()
    product_s = time.perf_counter() - started
    models = Models(pair.lm, pair.rm, pair.rm, pair.lm.generation_config.eos_token_id)
    torch.set_default_device("cuda")
    started = time.perf_counter()
    outcome = Literal(models, config, seed=0, max_tokens=128).run("p", words.encode(text))
    torch.cuda.synchronize()
    literal_s = time.perf_counter() - started
    torch.set_default_device("cpu")
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


def embedded_traces(count: int = 256) -> dict[str, int]:
    """Decisions of the embedded models on CPU and GPU in fp32, and on GPU in bf16."""
    runs = {}
    for name, engine in (
        ("cpu", Engine(device="cpu")),
        ("gpu", Engine(device="cuda")),
        ("bf16", Engine(device="cuda", dtype="bfloat16")),
    ):
        reward = Reward(str(folder("judge")), guide=str(folder("guide")))
        runs[name] = decisions(load_engines(LM(str(folder("lm"))), reward, engine), count)
    return {
        "prompts": count,
        "fp32_differ": sum(runs["cpu"][p] != runs["gpu"][p] for p in runs["cpu"]),
        "bf16_differ": sum(runs["gpu"][p] != runs["bf16"][p] for p in runs["gpu"]),
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
