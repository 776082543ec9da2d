"""Peak memory of one sweep and its proposals at a large vocabulary.

    python -m tests.bench.passes.memory [response tokens] [vocabulary]

`plain` keeps logits and one-hot gradients `[T, V]` in fp32 under autograd, as the literal algorithm
does. `product` is this library, `checkpointed` the same with `runtime.gradient_checkpointing`.
Each runs in a process of its own, so that peaks do not mix. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace

import torch

from nabla_core import NablaConfig, Runtime, Select
from nabla_core.draws import DrawKey
from nabla_core.requests import Context, Propose, Response, Sweep
from tests.bench.arguments import show_help
from tests.bench.shapes import TINY, Pair, random_pair

PROMPT = 32


def main() -> None:
    show_help(__doc__)
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    vocabulary = int(sys.argv[2]) if len(sys.argv) > 2 else TINY.vocabulary
    if len(sys.argv) > 3:
        print(json.dumps(measure(sys.argv[3], tokens, vocabulary)))
        return
    found = {}
    for way in ("plain", "product", "checkpointed"):
        command = [
            sys.executable,
            "-m",
            "tests.bench.passes.memory",
            str(tokens),
            str(vocabulary),
            way,
        ]
        # Return freed blocks to the system at once. Otherwise glibc keeps them and the peak grows.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
        output = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        ).stdout
        found[way] = json.loads(output.strip().splitlines()[-1])
    print(f"one response of {tokens} tokens, V = {vocabulary}, fp32, CPU; tiny LM and reward model")
    print(f"{'way':14}{'peak over the models, MiB':>28}{'state, bytes per token':>26}")
    for way, f in found.items():
        print(f"{way:14}{f['peak_mib']:28.0f}{f['state_bytes_per_token']:26.0f}")
    ratio = found["plain"]["peak_mib"] / found["product"]["peak_mib"]
    print(json.dumps({"tokens": tokens, "vocabulary": vocabulary, **found, "peak_ratio": ratio}))


def measure(way: str, tokens: int, vocabulary: int) -> dict[str, float]:
    """Peak resident memory above that of the models, and bytes kept per response token."""
    torch.set_num_threads(1)
    pair = random_pair(replace(TINY, vocabulary=vocabulary), device="cpu", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary - 2, (PROMPT + tokens,), generator=generator).tolist()
    before = peak_mib()
    if way == "plain":
        state = plain(pair, ids)
    else:
        state = product(pair, ids, checkpoint=way == "checkpointed")
    return {"peak_mib": peak_mib() - before, "state_bytes_per_token": state / tokens}


def plain(pair: Pair, ids: list[int]) -> float:
    """The literal loss through one-hot inputs, and its gradient. Returns bytes kept."""
    table = pair.lm.get_input_embeddings().weight
    onehots = torch.nn.functional.one_hot(torch.tensor(ids[PROMPT:]), len(table)).float()
    onehots.requires_grad_()
    prompt = table[torch.tensor(ids[:PROMPT])]
    logits = pair.lm(inputs_embeds=torch.cat([prompt, onehots @ table])[None]).logits[0]
    log_p = logits[PROMPT - 1 : -1].log_softmax(-1)
    rm_table = pair.rm.get_input_embeddings().weight
    inputs = torch.cat([rm_table[torch.tensor(ids[:PROMPT])], onehots @ rm_table])[None]
    reward = pair.rm.score(pair.rm.model(inputs_embeds=inputs).last_hidden_state[0, -1])[0]
    loss = -(1e-3 * (onehots * log_p).sum() + reward)
    (gradient,) = torch.autograd.grad(loss, onehots)
    return float(gradient.nbytes + logits.nbytes)


def product(pair: Pair, ids: list[int], *, checkpoint: bool) -> float:
    """A sweep and all its proposals. Returns the bytes kept between requests."""
    engines = pair.engines(Runtime(reuse=False, gradient_checkpointing=checkpoint))
    frame = (tuple(ids[:PROMPT]), ())
    context = Context("", frame[0], frame, frame)
    config = NablaConfig(select=Select(confidence_threshold=1.0))
    sweep = Sweep(context, Response(tuple(ids[PROMPT:]), "length"), 0, config)
    (reply,) = engines.serving(Sweep).answer([sweep])  # type: ignore[attr-defined]
    gradients = reply.value.gradients
    key = DrawKey(0, "p", 0, "resample")
    engines.serving(Propose).answer([Propose(gradients, 0, 10**6, key)])  # type: ignore[attr-defined]
    likelihood = gradients.lm.likelihood
    kept = [
        gradients.lm.hidden,
        likelihood.log_probability,
        likelihood.confidence,
        likelihood.entropy,
        likelihood.top,
    ]
    for state in gradients.guide_states.values():
        kept += [state.rm] + ([state.lm] if state.lm is not None else [])
    return float(sum(t.nbytes for t in kept))


def peak_mib() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
