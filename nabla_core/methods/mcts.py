"""Monte Carlo tree search over steps of a response, with the judge's reward as the value.

A node is a partial response, an edge a step. The root is completed greedily and judged: that is the
base response. Then, `simulations` times:

1. Select: from the root on, the child with the highest UCT value (Kocsis and Szepesvari, 2006)

       Q + exploration * sqrt(ln visits(parent) / visits(child)),

   until a node may get another child. Q is the child's mean reward, scaled to 0 to 1 over the
   rewards of the tree, as a judge's rewards have no range of their own.
2. Expand: draw a next step. A node has at most min(children, visits ** widening) children
   (progressive widening). A step that the node has already leads to that child.
3. Evaluate: the judge reads the leaf, with a greedy completion (`judged: greedy`) or alone.
4. Back up the reward along the path.

The answer is the best whole response that was judged. With `judged: partial` only ended leaves are
whole; without any, the path of most visits is completed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nabla_core.config import MCTS
from nabla_core.methods.beam import trace_of_steps, whole_of
from nabla_core.methods.nabla import ProposalOutcome, trace_of
from nabla_core.methods.steps import UNREAD, Partial, StepSearch, step_search
from nabla_core.requests import Flow, Proposal, RequestGenerator, Spent, ask
from nabla_core.types import Cost, Prompt


@dataclass(eq=False, kw_only=True)
class _Node:
    """A partial response in the tree. `number`: how many nodes there were before it."""

    number: int
    partial: Partial
    children: list[_Node] = field(default_factory=list)
    visits: int = 0
    total: float = 0.0
    draws: int = 0


@dataclass(eq=False)
class _Tree:
    """`low` and `high`: the range of the rewards."""

    config: MCTS
    root: _Node
    nodes: int = 1
    low: float = math.inf
    high: float = -math.inf

    def may_widen(self, node: _Node) -> bool:
        most = math.ceil(node.visits**self.config.widening)
        return len(node.children) < min(self.config.children, most)

    def select(self, node: _Node) -> _Node:
        """The child with the highest UCT value, the first of equals."""
        return max(node.children, key=lambda child: self._uct(node, child))

    def _uct(self, parent: _Node, child: _Node) -> float:
        span = self.high - self.low
        quality = (child.total / child.visits - self.low) / span if span else 0.0
        return quality + self.config.exploration * math.sqrt(math.log(parent.visits) / child.visits)

    def note(self, value: float) -> None:
        """Widen the range of rewards."""
        if value != UNREAD:
            self.low, self.high = min(self.low, value), max(self.high, value)

    def back_up(self, path: Sequence[_Node], value: float) -> None:
        self.note(value)
        if value == UNREAD:  # as bad as the worst that was read
            value = self.low if self.low < math.inf else 0.0
        for node in path:
            node.visits += 1
            node.total += value


def mcts(prompt: Prompt, config: MCTS, *, seed: int = 0, max_tokens: int = 1024) -> Flow:
    """The best response that the search finds. Its revisions are the simulations, where whole
    responses are judged: `position` is where a response leaves the best so far. By the paper's
    count a sampled token and a reward are a call each. Random draws are keyed, as in `nabla`."""
    search = yield from step_search(
        prompt, config.steps, config.judged, config.rollout, seed, max_tokens
    )
    tree = _Tree(config, _Node(number=0, partial=search.root(), visits=1))
    if config.judged == "greedy":  # an empty response has no reward
        yield from search.judge([tree.root.partial])
        tree.note(tree.root.partial.value)
    outcomes: list[ProposalOutcome] = []
    for _ in range(config.simulations):
        path = yield from _leaf(search, tree)
        leaf, best = path[-1].partial, search.best
        yield from search.judge([leaf])
        tree.back_up(path, leaf.value)
        if config.judged == "greedy" and best is not None and best.judged is not None:
            spent = yield from ask(Spent())
            outcomes.append(_outcome(best, leaf, spent))
    if search.best is None:
        yield from search.judge([(yield from _completed(search, tree.root))])
    base, best = search.first, search.best
    assert best is not None
    if base is None or base.judged is None or best.judged is None or not outcomes:
        return (yield from trace_of_steps(search, best))
    rewards = (base.judged.reward, best.judged.reward)
    responses = (whole_of(base), whole_of(best))
    return (yield from trace_of(prompt, search.context, responses, rewards, outcomes, seed))


def _leaf(search: StepSearch, tree: _Tree) -> RequestGenerator[list[_Node]]:
    """The path from the root to a new node, or to an ended response."""
    node = tree.root
    path = [node]
    while not node.partial.ended:
        if tree.may_widen(node):
            name = f"node {node.number} draw {node.draws}"
            (drawn,) = yield from search.extend([(node.partial, name)])
            node.draws += 1
            same = (child for child in node.children if child.partial.tokens == drawn.tokens)
            known = next(same, None)
            if known is None:
                new = _Node(number=tree.nodes, partial=drawn)
                tree.nodes += 1
                node.children.append(new)
                return [*path, new]
            node = known
        else:
            node = tree.select(node)
        path.append(node)
    return path


def _completed(search: StepSearch, node: _Node) -> RequestGenerator[Partial]:
    """The path of most visits, completed."""
    while node.children:
        node = max(node.children, key=lambda child: child.visits)
    return (yield from search.complete(node.partial))


def _outcome(best: Partial, leaf: Partial, spent: Cost) -> ProposalOutcome:
    """A simulation as a change of the best response so far."""
    before, after = whole_of(best).tokens, whole_of(leaf).tokens
    last = min(len(before), len(after)) - 1
    pairs = enumerate(zip(before, after, strict=False))
    position = next((i for i, (a, b) in pairs if a != b), last)
    return ProposalOutcome(
        proposal=Proposal(position=position, from_token=before[position], to_token=after[position]),
        tail=after[position:],
        reward_before=best.value,
        reward_after=None if leaf.judged is None else leaf.judged.reward,
        accepted=leaf.value > best.value,
        spent=spent,
    )
