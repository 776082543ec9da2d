"""Passes and FLOPs of a row to expect, from the shapes of the models and the settings.

An estimate, and a high one: every response is `max_tokens` long, a new tail half as long, and a
quarter of the proposals is accepted. FLOPs as in `nabla_core.models.flops`; drawing tokens and
optimising logits is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from nabla_core.config import MCTS, Beam, Decoding, NablaConfig, Steps
from nabla_core.methods.counterfactuals import Explore

if TYPE_CHECKING:
    from pipeline.preview.models import Models

ACCEPTED = 0.25
HOW = (
    f"estimated: every response max_tokens long, new tails half of that, {ACCEPTED:.0%} of "
    "proposals accepted; shorter responses cost less"
)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a row costs. A pass is one sequence through one model once."""

    rollouts: float = 0
    generated_tokens: float = 0
    lm_passes: float = 0
    reward_passes: float = 0
    flops: float = 0

    def __add__(self, other: Expected) -> Expected:
        return Expected(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Expected)}
        )

    def __mul__(self, times: float) -> Expected:
        return Expected(**{f.name: getattr(self, f.name) * times for f in fields(Expected)})


@dataclass(frozen=True)
class _Row:
    """The pieces of a row: `prompt` and `length` tokens of prompt and response. `guided`: rollouts
    are read by the guide too."""

    models: Models
    prompt: float
    length: int
    guided: bool = False

    def rollout(self, share: float = 1.0) -> Expected:
        """The last `share` of a response; what is before it is in a cache."""
        fed, cached = self._split(share)
        new = round(self.length * share)
        return Expected(
            rollouts=1,
            generated_tokens=new,
            # The guide reads the prompt; behind a prefix in its cache it only decodes.
            reward_passes=1 if self.guided and share == 1 else 0,
            flops=self._decoded(fed, cached, new),
        )

    def steps(self, steps: Steps) -> int:
        """Steps of a response; with a separator as many as with steps of the longest length."""
        return max(1, -(-self.length // steps.tokens))

    def samples(self, count: int) -> Expected:
        """Responses to one prompt, which is read once."""
        again = Expected(
            rollouts=1,
            generated_tokens=self.length,
            flops=self._decoded(self.length, round(self.prompt), self.length),
        )
        return self.rollout() + again * (count - 1)

    def score(self, share: float = 1.0) -> Expected:
        """The judge reads a response, or the last `share` of it."""
        if self.models.judge is None:
            return Expected()
        fed, cached = self._split(share)
        return Expected(reward_passes=1, flops=self.models.judge.shape.forward(fed, cached))

    def likelihood(self, share: float = 1.0, *, backward: bool = False) -> Expected:
        """The LM reads a response, or the last `share` of it, and its gradient is taken."""
        fed, cached = self._split(share)
        shape, rows = self.models.lm.shape, round(self.length * share)
        flops = shape.forward(fed, cached) + shape.head(rows)
        if backward:
            flops += shape.backward(fed, cached) + shape.head(rows)
        return Expected(lm_passes=2 if backward else 1, flops=flops)

    def sweep(self, share: float = 1.0, *, guide: bool = True) -> Expected:
        """LM and guide read a response, or the last `share` of it."""
        gradient = self.models.kind == "gradient"
        read = self.likelihood(share, backward=guide and gradient)
        if not guide:
            return read
        if self.models.value_head is not None:  # it reads what the LM has read
            return read + Expected(flops=self.models.value_head.flops * self.length * share)
        fed, cached = self._split(share)
        assert self.models.guide is not None, "a search has a guide"
        shape = self.models.guide.shape
        flops = shape.forward(fed, cached)
        flops += shape.backward(fed, cached) if gradient else 0
        # Advantages of the whole vocabulary at every position.
        rows = 2.0 * shape.hidden * self.models.lm.outputs * self.length * share
        return read + Expected(reward_passes=2 if gradient else 1, flops=flops + rows)

    def _decoded(self, fed: int, cached: int, new: int) -> float:
        """FLOPs of LM, and of a guide that decodes with it, for `new` tokens."""
        shapes = [self.models.lm.shape]
        head = self.models.value_head  # it is on the LM: an output layer, and no pass of its own
        guide = self.models.guide
        shapes += [guide.shape] if self.guided and head is None and guide is not None else []
        layers = head.flops * new if self.guided and head is not None else 0.0
        return layers + sum(shape.forward(fed, cached) + shape.head(new) for shape in shapes)

    def _split(self, share: float) -> tuple[int, int]:
        """Tokens that are fed, and those before them whose keys and values are kept."""
        whole, last = round(self.prompt) + self.length, round(self.length * share)
        return (whole, 0) if share == 1 else (last, whole - last)


def of_decoding(decoding: Decoding, models: Models, prompt: float) -> Expected:
    """A row of a method; `prompt` is the mean length of a prompt in tokens."""
    row = _Row(models, prompt, decoding.max_tokens, decoding.rollout.beta is not None)
    match decoding.method:
        case "nabla":
            cost = _search(decoding.nabla, row)
        case "greedy" | "sample" | "guided":
            cost = row.rollout() + row.score()
        case "best_of_n":
            cost = row.samples(decoding.best_of_n.n) + row.score() * decoding.best_of_n.n
        case "majority":
            cost = row.samples(decoding.majority.n)
        case "mh":
            cost = row.rollout() + row.score()
            cost += (row.rollout(0.5) + row.score(0.5)) * decoding.mh.steps
        case "beam":
            beam = decoding.beam
            cost = _steps(row, beam, beam.width * beam.expand * row.steps(beam.steps))
        case "mcts":
            mcts = decoding.mcts
            # A draw may give a step that the tree has, so there are two to a simulation.
            drawn = row.rollout(1 / row.steps(mcts.steps))
            cost = row.rollout() + row.score()
            cost += _steps(row, mcts, mcts.simulations) + drawn * mcts.simulations
        case "ggro":
            segments = max(1, row.length // decoding.ggro.min_segment)
            tried = (decoding.ggro.refinements - 1) * segments
            cost = row.rollout() + _gradient(row)
            cost += (row.rollout(0.5) + _gradient(row, 0.5)) * tried
    return cost


def _steps(row: _Row, config: Beam | MCTS, count: float) -> Expected:
    """`count` steps that are drawn, completed and judged."""
    step = row.rollout(1 / row.steps(config.steps)) + row.score(0.5)
    return (step if config.judged == "partial" else step + row.rollout(0.5)) * count


def _gradient(row: _Row, share: float = 1.0) -> Expected:
    """Reward and gradient of the last `share` of a response. The LM reads without a gradient."""
    judges = row.models.guide is row.models.judge
    read = row.sweep(share)
    return read if judges else read + row.score(share)


def _search(config: NablaConfig, row: _Row) -> Expected:
    models = row.models
    judges = models.kind == "gradient" and models.guide is models.judge and config.uses_guide
    first = row.rollout() + row.sweep(guide=config.uses_guide)
    proposal = row.rollout(0.5) + row.score(0.5)
    accepted = row.sweep(0.5, guide=config.uses_guide) * ACCEPTED
    # The sweep of a judge that is its own guide gives the first reward.
    first = first if judges else first + row.score()
    return first + (proposal + accepted) * config.max_rollouts


def of_exploration(explore: Explore, max_tokens: int, models: Models, prompt: float) -> Expected:
    """A response with its counterfactuals."""
    row = _Row(models, prompt, max_tokens)
    tried = explore.alternatives + explore.copied
    tails = min(explore.positions, max_tokens) * tried * explore.tails
    # The response is the LM's; its tails may be guided.
    tail = replace(row, guided=explore.tail.beta is not None).rollout(0.5)
    if explore.scorer == "judge":
        tail += row.score(0.5)
    found = row.rollout() + row.likelihood() + row.score() + tail * tails
    return found + row.sweep() if explore.choose == "guide" else found
