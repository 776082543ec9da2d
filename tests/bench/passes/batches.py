"""How far the rewards of equal responses differ when the batches do.

    python -m tests.bench.passes.batches [prompts]

The embedded models with the search of configs/embedded.yaml, once for each batch size. The first is
the reference. The last line is one JSON object.
"""

from __future__ import annotations

import json
import sys

from nabla_core import Decoding, NablaConfig, Ranked, Reward, Runtime, Sampling, Trace, drive, flow
from nabla_core.engines.loading import load_engines
from tests.bench.arguments import show_help
from tests.bench.tasks import TASKS

SIZES = (1, 8, 64)
GUIDES = ("embedded-head", "embedded")


def main() -> None:
    show_help(__doc__)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    found = [{"guide": guide, **row} for guide in GUIDES for row in differences_of(guide, count)]
    print(f"{count} prompts, batches of {SIZES[0]} against larger ones")
    columns = ("guide", "max_batch", "choices differ", "rewards differ", "largest difference")
    print("".join(f"{name:>20}" for name in columns))
    for row in found:
        print(
            "".join(
                f"{row[name]:>20.3g}" if name == columns[-1] else f"{row[name]:>20}"
                for name in columns
            )
        )
    print(json.dumps({"prompts": count, "reference": SIZES[0], "rows": found}))


def differences_of(guide: str, count: int) -> list[dict[str, int | float]]:
    """One row for each batch size but the first."""
    reference, *others = (traces(guide, size, count) for size in SIZES)
    rows = []
    for size, other in zip(SIZES[1:], others, strict=True):
        pairs = [(other[name], trace) for name, trace in reference.items()]
        equal = [(a, b) for a, b in pairs if choices(a) == choices(b)]
        gaps = [abs(x - y) for a, b in equal for x, y in zip(rewards(a), rewards(b), strict=True)]
        rows.append(
            {
                "max_batch": size,
                "choices differ": len(pairs) - len(equal),
                "rewards": len(gaps),
                "rewards differ": sum(gap > 0 for gap in gaps),
                "largest difference": max(gaps),
            }
        )
    return rows


def traces(guide: str, size: int, count: int) -> dict[str, Trace]:
    engines = load_engines("embedded", Reward(guide=guide), Runtime(device="cpu", max_batch=size))
    nabla = NablaConfig(
        proposals="ranked",
        ranked=Ranked(beta=1.0, min_score=-3.0, reward_weight=2.0),
        max_rollouts=8,
        rollout=Sampling(temperature=0),
    )
    decoding = Decoding(max_tokens=TASKS["digits"].max_tokens, nabla=nabla)
    flows = (flow(p, decoding, seed=0) for p in TASKS["digits"].prompts(count, "test"))
    return {t.prompt_id: t for t in drive(flows, engines)}


def choices(trace: Trace) -> tuple[object, ...]:
    """Texts, tokens and decisions of a trace."""
    decisions = [(r.position, r.from_token, r.to_token, r.accepted) for r in trace.revisions]
    return trace.base_text, trace.text, trace.tokens, trace.finish_reason, decisions


def rewards(trace: Trace) -> list[float]:
    """All rewards of a trace, those of its revisions too."""
    found = [trace.base_reward, trace.reward]
    for revision in trace.revisions:
        found += [revision.reward_before, revision.reward_after]
    return [reward for reward in found if reward is not None]


if __name__ == "__main__":
    main()
