"""The policies of tests.bench.policies on unseen prompts, beside the LM that they come from.

    python -m tests.bench.policies_measured --out DIR [--prompts 2000] [--samples 4] [--seed 0]

For the LM and each DIR/beta-B/policy, on prompts of the test split:

- sampled at temperature 1: accuracy, reward, and KL to the LM by log-probabilities;
- greedy, guided by the embedded head (beta 1/4, greedy) and searched (the default): accuracy,
  reward and FLOPs;
- what J lacks to its optimum, on the first 100 prompts: J* is estimated by importance sampling from
  256 responses of the policy itself (modes that it never visits are missed, so this is a lower
  bound) and, where the effective sample size is large enough, from 4,096 of the LM.

Intervals are 95 % over prompts. Everything is kept in DIR/measured.json; the same command
continues. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nabla_core import Decoding, Prompt, Reward, Runtime, drive, flow, load_engines
from nabla_core.embedded import task
from pipeline.duality.language.embedded_models import EmbeddedModels
from pipeline.duality.language.estimators import estimate_optimum
from pipeline.store.files import Folder
from tests.bench.arms import MAX_TOKENS, Interval, guided_arm, quiet, ranked_arm
from tests.bench.gain import BETA, MIN_SCORE, REWARD_WEIGHT

MEASURED, BATCH = "measured.json", 256
GUIDED = 0.25
# For the optimum of J: prompts, responses of a policy and of the LM to each.
OPTIMUM, OWN, REFERENCE = 100, 256, 4096


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.policies_measured", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    quiet()
    folder = Folder(str(given.out))
    found: dict[str, Any] = json.loads(folder.read(MEASURED)) if folder.exists(MEASURED) else {}
    prompts = task.prompts(given.prompts, seed=given.seed, split="test")
    lms = {"LM": "embedded"}
    for path in sorted(given.out.glob("beta-*/policy")):
        lms[path.parent.name] = str(path)
    for name, lm in lms.items():
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "sampled": partial(sampled, lm, prompts, given.samples, given.seed)
        }
        for arm, decoding in arms().items():
            measures[arm] = partial(decoded, lm, decoding, prompts)
        if name != "LM":
            beta = float(name.removeprefix("beta-"))
            measures["optimum"] = partial(optimum, lm, beta, prompts[:OPTIMUM], given.seed)
        for arm, measure in measures.items():
            if arm not in found.setdefault(name, {}):
                found[name][arm] = measure()
                folder.write(MEASURED, json.dumps(found, indent=2).encode())
                print(name, arm, json.dumps(found[name][arm]), flush=True)
    print(json.dumps(found))


def arms() -> dict[str, Decoding]:
    """What a policy is asked with, besides samples."""
    return {
        "greedy": Decoding(method="greedy", max_tokens=MAX_TOKENS),
        "guided": guided_arm(GUIDED),
        "search": ranked_arm(BETA, MIN_SCORE, REWARD_WEIGHT),
    }


def sampled(lm: str, prompts: Sequence[Prompt], samples: int, seed: int) -> dict[str, Any]:
    """Responses at temperature 1, measured by the log-probabilities of policy and LM."""
    models = EmbeddedModels(list(prompts))
    policy = _policy(models, lm)
    with torch.no_grad():
        found = models.sample(policy, samples, torch.Generator().manual_seed(seed))
    assert found.log_q is not None
    return {
        "accuracy": _mean(found.correct.double()),
        "all_steps": _mean(found.all_steps_correct.double()),
        "reward": _mean(found.reward),
        "kl": _mean(found.log_q - found.log_ref),
    }


def decoded(lm: str, decoding: Decoding, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """The responses of one method."""
    engines = load_engines(
        lm, Reward("embedded", guide="embedded-head"), Runtime(device="cpu", max_batch=BATCH)
    )
    flows = (flow(prompt, decoding) for prompt in prompts)
    traces = list(drive(flows, engines, in_flight=3 * BATCH))
    grades = [task.grade(t.prompt_text, t.text) for t in traces]
    return {
        "accuracy": Interval.of([float(g.answer) for g in grades]).triple(),
        "all_steps": Interval.of([float(g.trace) for g in grades]).triple(),
        "reward": Interval.of([t.reward for t in traces if t.reward is not None]).triple(),
        "mflop": round(sum(t.cost.flops for t in traces) / len(traces) / 1e6, 1),
    }


def optimum(lm: str, beta: float, prompts: Sequence[Prompt], seed: int) -> dict[str, Any]:
    """J* - J, by importance sampling from the policy and from the LM."""
    models = EmbeddedModels(list(prompts))
    policy = _policy(models, lm)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        own = models.sample(policy, OWN, generator)
        reference = models.sample(models.lm, REFERENCE, generator)
    assert own.log_q is not None
    regularised = own.reward - beta * (own.log_q - own.log_ref)
    # E_q[p_ref exp(r / beta) / q] = Z, whatever q covers.
    log_z = (regularised / beta).logsumexp(1) - torch.tensor(float(OWN)).log()
    objective = regularised.mean(1)
    by_lm = estimate_optimum(reference.reward, beta)
    estimable = by_lm.estimable
    lacking = (beta * by_lm.log_z - objective)[estimable]
    return {
        "from_policy": _mean((beta * log_z - objective)[:, None]),
        "estimable_from_lm": int(estimable.sum()),
        "from_lm": _mean(lacking[:, None]) if int(estimable.sum()) > 1 else None,
    }


def _policy(models: EmbeddedModels, lm: str) -> Any:
    if lm == "embedded":
        return models.lm
    from transformers import Qwen2ForCausalLM  # noqa: PLC0415

    return Qwen2ForCausalLM.from_pretrained(lm).eval().requires_grad_(False)


def _mean(values: Tensor) -> list[float]:
    """Of values `[P, S]`: the mean with its interval over prompts."""
    return Interval.of(values.mean(1).tolist()).triple()


if __name__ == "__main__":
    main()
