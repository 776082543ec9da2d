"""Guided decoding on a GPU: is it right in bf16, and what does it cost beside the LM alone?

    python -m tests.bench.gpu.guided [--output results.json] [--rehearse]

`--rehearse` runs every step on the CPU with tiny models, to check the script without a card. Its
figures mean nothing. On a card it is meant to take less than ten minutes.

1. The embedded models: guided tokens in fp32 here and on the CPU, and in bf16 here.
2. Qwen2 of the 1.5B shape with random weights, and a head of the same shape, bf16. Tokens that were
   decoded with caches in a batch are compared with the guided law of one pass over each whole
   response: how many are its argmax, and by how many nats the others miss it.
3. The same models: seconds and peak memory of decoding at several batch sizes, with LM and head and
   with the LM alone. The ratio of the seconds stands beside that of the FLOPs, which is 2.

The last line is one JSON object with the same figures; it is also written to the file named.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import Qwen2ForCausalLM

from nabla_core import Reward, Runtime, Sampling, drive, flow, load_engines
from nabla_core.config import Decoding
from nabla_core.draws import DrawKey
from nabla_core.embedded import task
from nabla_core.engines.loading import head_guide_for
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.guides.head import HeadGuide
from nabla_core.models.loading import LanguageModel, language_model
from nabla_core.requests import Context, Reply, Response, Rollout
from nabla_core.types import Identity
from tests.bench.arms import guided_arm
from tests.bench.gpu.card import run_script, synchronize
from tests.bench.shapes import ONE_AND_A_HALF_B, TINY, Size, configuration, tokenizer

PROMPT = 64
GUIDED = Sampling(temperature=0, beta=0.5)
ALONE = Sampling(temperature=0)


@dataclass(frozen=True)
class Plan:
    """Where and how large. `compared`: responses of the second step."""

    device: str
    dtype: torch.dtype
    size: Size
    tokens: int
    batches: tuple[int, ...]
    compared: int
    embedded: int


CARD = Plan("cuda", torch.bfloat16, ONE_AND_A_HALF_B, 256, (1, 16, 64), 16, 256)
REHEARSAL = Plan("cpu", torch.float32, replace(TINY, vocabulary=2048), 12, (1, 4), 4, 8)


def main() -> None:
    run_script("tests.bench.gpu.guided", measure, card=CARD, rehearsal=REHEARSAL)


def measure(plan: Plan) -> dict[str, Any]:
    """Measure everything and print each figure as soon as it is known."""
    report: dict[str, Any] = {"device": plan.device, "dtype": str(plan.dtype)}
    report["embedded"] = embedded = embedded_tokens(plan)
    print(f"embedded: {embedded}", flush=True)
    lm, guide = models(plan)
    report["law"] = law = against_one_pass(lm, guide, plan)
    print(f"{plan.size.name}, caches against one pass: {law}", flush=True)
    report["cost"] = []
    for batch in plan.batches:
        row = cost(lm, guide, plan, batch)
        report["cost"].append(row)
        print(f"{plan.size.name}, batch {batch}: {row}", flush=True)
    return report


def embedded_tokens(plan: Plan) -> dict[str, int]:
    """Guided responses of the embedded models that differ between devices and types."""
    runs = {
        name: _responses(runtime, guided_arm(0.25), plan.embedded)
        for name, runtime in (
            ("cpu", Runtime(device="cpu")),
            ("here", Runtime(device=plan.device)),
            ("bf16", Runtime(device=plan.device, dtype="bfloat16")),
        )
    }
    return {
        "prompts": plan.embedded,
        "fp32_differ": sum(runs["cpu"][p] != runs["here"][p] for p in runs["cpu"]),
        "bf16_differ": sum(runs["here"][p] != runs["bf16"][p] for p in runs["here"]),
    }


def _responses(runtime: Runtime, decoding: Decoding, count: int) -> dict[str, tuple[int, ...]]:
    engines = load_engines("embedded", Reward(guide="embedded-head"), runtime)
    asked = task.prompts(count, seed=0, split="test")
    return {t.prompt_id: t.tokens for t in drive((flow(p, decoding) for p in asked), engines)}


def models(plan: Plan) -> tuple[LanguageModel, HeadGuide]:
    """A random LM, and a random head of the same shape."""
    words = tokenizer(plan.size.vocabulary)
    made = []
    for seed, name in enumerate(("lm", "head")):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(configuration(plan.size))
        with torch.no_grad():
            # Logits of random weights are nearly equal: then an argmax says nothing.
            model.model.norm.weight.mul_(8.0)
        model = model.to(device=plan.device, dtype=plan.dtype).eval().requires_grad_(False)
        made.append(language_model(model, words, Identity(name, "random")))
    lm, head = made
    return lm, head_guide_for(head, lm, 1.0, Runtime(device=plan.device))


def decode(
    lm: LanguageModel, guide: HeadGuide, plan: Plan, batch: int, sampling: Sampling
) -> list[Reply[Response]]:
    """`batch` responses to random prompts, decoded at once."""
    engine = RolloutEngine(lm, batch, 1 << 30, guide=guide)
    for ticket, ids in enumerate(_prompts(plan, batch)):
        context = Context("", ids, (ids, ()), (ids, ()), str(ticket))
        key = DrawKey(0, str(ticket), 0, "rollout 0")
        engine.submit(ticket, Rollout(context, (), plan.tokens, sampling, key))
    found: dict[int, Any] = {}
    while engine.waiting:
        found |= dict(engine.step())
    failed = [result for result in found.values() if isinstance(result, Exception)]
    if failed:
        raise failed[0]
    return [found[ticket] for ticket in range(batch)]


def _prompts(plan: Plan, count: int) -> list[tuple[int, ...]]:
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(0, plan.size.vocabulary - 2, (count, PROMPT), generator=drawn)
    return [tuple(row) for row in ids.tolist()]


@torch.inference_mode()
def against_one_pass(lm: LanguageModel, guide: HeadGuide, plan: Plan) -> dict[str, float]:
    """Tokens that are the argmax of the guided law as one pass over the whole response gives it,
    and by how many nats the others miss it."""
    replies = decode(lm, guide, plan, plan.compared, GUIDED)
    gaps: list[float] = []
    for ids, reply in zip(_prompts(plan, plan.compared), replies, strict=True):
        tokens = reply.value.tokens
        gaps += _gaps(lm, guide, ids, tokens)
    return {
        "tokens": len(gaps),
        "argmax": sum(gap == 0 for gap in gaps),
        "largest_gap_nats": max(gaps),
    }


def _gaps(
    lm: LanguageModel, guide: HeadGuide, prompt: Sequence[int], tokens: Sequence[int]
) -> list[float]:
    assert GUIDED.beta is not None
    read = torch.tensor([[*prompt, *tokens[:-1]]], device=lm.device)
    hidden = [m.body(input_ids=read).last_hidden_state[0, -len(tokens) :] for m in (lm, guide.head)]
    law = lm.logits(hidden[0]) + guide.next_advantages(hidden[1]) / GUIDED.beta
    chosen = law.gather(-1, torch.tensor(tokens, device=lm.device)[:, None]).squeeze(-1)
    gaps: list[float] = (law.amax(-1) - chosen).tolist()
    return gaps


def cost(lm: LanguageModel, guide: HeadGuide, plan: Plan, batch: int) -> dict[str, float]:
    """Seconds, FLOPs and peak memory with the head, over those of the LM alone."""
    seconds, flops, memory = {}, {}, {}
    decode(lm, guide, replace(plan, tokens=2), batch, GUIDED)  # a warm-up
    for name, sampling in (("alone", ALONE), ("guided", GUIDED)):
        if plan.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        synchronize()
        started = time.perf_counter()
        replies = decode(lm, guide, plan, batch, sampling)
        synchronize()
        seconds[name] = (time.perf_counter() - started) / sum(len(r.value.tokens) for r in replies)
        flops[name] = sum(r.cost.flops for r in replies)
        memory[name] = torch.cuda.max_memory_allocated() / 2**30 if plan.device == "cuda" else 0.0
    return {
        "batch": batch,
        "alone_ms_a_token": 1000 * seconds["alone"],
        "guided_ms_a_token": 1000 * seconds["guided"],
        "seconds_ratio": seconds["guided"] / seconds["alone"],
        "flops_ratio": flops["guided"] / flops["alone"],
        "alone_peak_gib": memory["alone"],
        "guided_peak_gib": memory["guided"],
    }


if __name__ == "__main__":
    main()
