"""Tree search against a literal version."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from nabla_core import Decoding, drive, flow
from nabla_core.config import MCTS, Sampling, Steps
from nabla_core.draws import DrawKey
from tests.core.methods.test_beam import LIMIT, STEPS, ended
from tests.core.methods.toy import SEPARATOR, Tokens, engines, generate, prompt, reward

SAMPLED = Sampling(1.0)


@dataclass
class Node:
    tokens: Tokens
    name: int
    children: list[Node] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    draws: int = 0


def literal(config: MCTS, prompt_id: str) -> list[Tokens]:
    """The whole responses in the order in which the simulations judged them, or the leaves."""
    until = None if config.steps.separator is None else SEPARATOR
    whole = config.judged == "greedy"
    root = Node((), 0)
    leaves = [generate((), LIMIT)] if whole else []
    values = [reward(leaf) for leaf in leaves]
    visits = {0: 1}  # the root has been visited before the first simulation
    names = 1

    def uct(parent: Node, child: Node) -> float:
        low, high = min(values), max(values)
        mean = sum(child.values) / len(child.values)
        quality = (mean - low) / (high - low) if high > low else 0.0
        log = math.log(visits[parent.name])
        return quality + config.exploration * math.sqrt(log / len(child.values))

    for _ in range(config.simulations):
        node, path = root, [root]
        while not ended(node.tokens):
            most = min(config.children, math.ceil(visits[node.name] ** config.widening))
            if len(node.children) >= most:
                parent = node
                node = max(node.children, key=lambda child: uct(parent, child))
                path.append(node)
                continue
            key = DrawKey(3, prompt_id, 0, f"node {node.name} draw {node.draws}")
            node.draws += 1
            end = min(LIMIT, len(node.tokens) + config.steps.tokens)
            step = generate(node.tokens, end, key, until=until)
            same = [child for child in node.children if child.tokens == step]
            if same:
                node = same[0]
                path.append(node)
                continue
            new = Node(step, names)
            names += 1
            node.children.append(new)
            path.append(new)
            break
        leaf = path[-1].tokens
        leaves.append(generate(leaf, LIMIT) if whole else leaf)
        values.append(reward(leaves[-1]))
        for each in path:
            each.values.append(values[-1])
            visits[each.name] = visits.get(each.name, 0) + 1
    return leaves


CONFIGS = [
    MCTS(simulations=12, steps=STEPS, rollout=SAMPLED),
    MCTS(simulations=12, exploration=0.2, children=2, widening=1.0, steps=Steps(tokens=1)),
    MCTS(simulations=10, steps=STEPS, judged="partial", rollout=SAMPLED),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_answer_is_the_best_of_the_literal_search(config: MCTS):
    decoding = Decoding(method="mcts", max_tokens=LIMIT, mcts=config)
    asked = [prompt(n) for n in range(20)]
    traces = {t.prompt_id: t for t in drive((flow(p, decoding, seed=3) for p in asked), engines())}
    for number in range(20):
        trace, leaves = traces[f"p{number}"], literal(config, f"p{number}")
        over = [leaf for leaf in leaves if ended(leaf)]
        assert over
        assert trace.tokens == max(over, key=reward)
        assert trace.base_tokens == over[0]
        assert trace.cost.paper_calls == trace.cost.generated_tokens + len(set(leaves))


def test_the_revisions_are_the_simulations():
    """So one run gives the answer and its cost after every number of simulations."""
    config = CONFIGS[0]
    for number in range(6):
        decoding = Decoding(method="mcts", max_tokens=LIMIT, mcts=config)
        (trace,) = drive([flow(prompt(number), decoding, seed=3)], engines())
        leaves = literal(config, f"p{number}")
        assert [r.reward_after for r in trace.revisions] == [reward(leaf) for leaf in leaves[1:]]
        best = leaves[0]
        for n, (revision, leaf) in enumerate(zip(trace.revisions, leaves[1:], strict=True), 1):
            assert revision.reward_before == reward(best)
            assert (*best[: revision.position], *revision.tail_token_ids) == leaf
            assert revision.accepted == (reward(leaf) > reward(best))
            best = leaf if revision.accepted else best
            shorter = MCTS(simulations=n, steps=STEPS, rollout=SAMPLED)
            short = Decoding(method="mcts", max_tokens=LIMIT, mcts=shorter)
            (found,) = drive([flow(prompt(number), short, seed=3)], engines())
            assert found.tokens == best
            assert revision.spent is not None
            assert found.cost.paper_calls == revision.spent.paper_calls


def test_leaves_that_have_not_ended_are_completed():
    config = MCTS(simulations=1, steps=Steps(tokens=1), judged="partial", rollout=SAMPLED)
    decoding = Decoding(method="mcts", max_tokens=LIMIT, mcts=config)
    completed = 0
    for number in range(12):
        (trace,) = drive([flow(prompt(number), decoding, seed=3)], engines())
        (leaf,) = literal(config, f"p{number}")
        assert trace.tokens == generate(leaf, LIMIT)
        completed += trace.tokens != leaf
    assert completed > 3
