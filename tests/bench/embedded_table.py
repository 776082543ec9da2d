"""The embedded comparison: every method on the same unseen prompts.

    python -m tests.bench.embedded_table [prompts] [batch]

Accuracy is the last digit, trace every step right, with 95 % intervals over prompts;
differences are paired by prompt. Sampling arms run under three seeds. Settings (learning rate
1, eta 1, ranked eta .25 and stop -2) were chosen on 500 validation prompts. The last line is
one JSON object with the same figures.
"""

from __future__ import annotations

import json
import sys

from nabla_core.config import DTO, Decoding, Sampling
from nabla_core.embedded import task
from nabla_core.embedded.weights import folder
from tests.bench.arms import (
    GREEDY,
    MAX_TOKENS,
    Arm,
    Outcome,
    best_of,
    engines_for,
    majority_of,
    nabla_arm,
    paired,
    print_table,
    quiet,
    ranked_arm,
    run,
)

SEEDS = (0, 1, 2)
NABLA = "nabla, mirror, guide + judge"
RANKED = "nabla, ranked mirror, guide + judge"


def arms() -> list[Arm]:
    """Rivals first, then nabla with one reward model in both roles, then with two."""
    published = nabla_arm(
        dto=DTO(learning_rate=0.01), resample=Sampling(temperature=0.5), rollout=GREEDY
    )
    adam = nabla_arm(dto=DTO(learning_rate=1.0))
    mirror = nabla_arm(dto=DTO(optimizer="mirror", eta=1.0))
    unmoved = nabla_arm(dto=DTO(learning_rate=0.0), resample=Sampling(temperature=0.5))
    return [
        Arm("greedy", Decoding("greedy", MAX_TOKENS)),
        Arm("majority of 8", majority_of(8), seeds=SEEDS),
        Arm("best of 8, judge", best_of(8), seeds=SEEDS),
        Arm("best of 64, judge", best_of(64), seeds=SEEDS),
        Arm("null: second choice, judge", nabla_arm(proposals="second"), null=True),
        Arm("null: random flip, judge", nabla_arm(proposals="random"), seeds=SEEDS, null=True),
        Arm("null: learning rate 0, tau .5, judge", unmoved, guide="judge", seeds=SEEDS, null=True),
        Arm("null: ranked without gradient, judge", ranked_arm(0.0, -2.0), null=True),
        Arm("nabla, Adam lr 1, judge in both roles", adam, guide="judge"),
        Arm("nabla, Adam lr 1, guide in both roles", adam, judge="guide", guide="guide"),
        Arm("nabla, Adam lr .01 tau .5, guide + judge", published, guide="guide", seeds=SEEDS),
        Arm("nabla, Adam lr 1, guide + judge", adam, guide="guide"),
        Arm("nabla, mirror, judge in both roles", mirror, guide="judge"),
        Arm(NABLA, mirror, guide="guide"),
        Arm(RANKED, ranked_arm(0.25, -2.0), guide="guide"),
    ]


def main() -> None:
    quiet()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    batch = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    prompts = task.prompts(count, seed=0, split="test")
    outcomes: dict[str, Outcome] = {}
    for arm in arms():
        engines = engines_for(arm, lambda role: str(folder(role)), batch)  # type: ignore[arg-type]
        outcomes[arm.name] = run(arm, prompts, engines, batch=batch)
    print(f"{count} unseen prompts of the embedded task, batch {batch}, one CPU thread, fp32")
    print_table(list(outcomes.values()))
    nulls = [o for o in outcomes.values() if o.arm.null]
    best_null = max(nulls, key=lambda o: sum(o.answer))
    same_order = [o for o in nulls if o.arm.decoding.nabla.proposals != "ranked"]
    best_same = max(same_order, key=lambda o: sum(o.answer))
    best_of_8 = outcomes["best of 8, judge"]
    differences = {
        "nabla_minus_best_of_8": paired(outcomes[NABLA], best_of_8),
        "nabla_minus_best_null": paired(outcomes[NABLA], best_null),
        "nabla_minus_best_left_to_right_null": paired(outcomes[NABLA], best_same),
        "ranked_minus_best_of_8": paired(outcomes[RANKED], best_of_8),
        "ranked_minus_best_null": paired(outcomes[RANKED], best_null),
    }
    print(f"\nnabla is '{NABLA}', ranked '{RANKED}'")
    print(f"best null arm '{best_null.arm.name}', left to right '{best_same.arm.name}'")
    for name, difference in differences.items():
        print(f"{name:38}{difference}")
    print(
        json.dumps(
            {
                "prompts": count,
                "accuracy": {n: round(sum(o.answer) / count, 4) for n, o in outcomes.items()},
                "trace": {n: round(sum(o.trace) / count, 4) for n, o in outcomes.items()},
                "calls": {n: round(o.cost.paper_calls, 2) for n, o in outcomes.items()},
                **{name: d.triple() for name, d in differences.items()},
                "best_null": best_null.arm.name,
            }
        )
    )


if __name__ == "__main__":
    main()
