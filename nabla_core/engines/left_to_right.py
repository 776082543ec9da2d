"""Left-to-right proposals: select, optimise (DTO), resample (paper, section 3).

One sweep serves every position of a response: for a fixed hard token sequence the gradient
at position j does not depend on which earlier tokens are committed (LM terms before j do
not see token j; the reward is the same function at the same point). So all candidates are
optimised as one batch without a model call. A candidate whose argmax moves needs the
gradient row of one more hard sequence; it is swept only when the search reaches it, for it
may never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nabla_core.config import NablaConfig
from nabla_core.draws import DrawKey, uniform
from nabla_core.dto import Rows, optimise
from nabla_core.engines.base import Reply, Result
from nabla_core.engines.guide import Task
from nabla_core.engines.passes import BLOCK
from nabla_core.engines.positions import banned_ids, hidden_at, norms, rows_at, uncertain
from nabla_core.engines.sweeps import Gradients, Guide, Slopes
from nabla_core.requests import Proposal, Propose
from nabla_core.sampling import draw
from nabla_core.types import Cost


@dataclass(eq=False)
class _Candidate:
    """One position. `needs` is the hard sequence whose gradient it waits for; `rows` its
    state between calls, n = 1; `proposal` the outcome, None where the gradient is too small."""

    gradients: Gradients
    position: int
    needs: tuple[int, ...]
    rows: Rows | None = None
    grad_norm: float = 0.0
    selected: bool = True
    proposal: Proposal | None = None

    @property
    def done(self) -> bool:
        return self.proposal is not None or not self.selected

    @property
    def changes(self) -> bool:
        return self.proposal is not None and self.proposal.to_token != self.proposal.from_token


@dataclass(eq=False)
class _Plan:
    """The candidates of one response, in order, and what their extra sweeps cost so far."""

    candidates: list[_Candidate]
    cost: Cost = field(default_factory=Cost)


class LeftToRight:
    """Resolves proposals for many responses at once."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._banned = banned_ids(guide)
        self._most_rows = max(1, BLOCK // guide.lm.head.out_features)

    def propose(self, requests: Sequence[Propose]) -> list[Result]:
        """The next proposals of each request, in order of position."""
        plans = [self._plan(r.gradients) for r in requests]
        keys = {id(r.gradients): r.key for r in requests}
        while True:
            due = [
                candidate
                for request, plan in zip(requests, plans, strict=True)
                for candidate in self._due(request, plan)
            ]
            if not due:
                break
            self._sweep_missing(due)
            self._resolve(due, keys)
        results: list[Result] = []
        for request, plan in zip(requests, plans, strict=True):
            found = [
                c.proposal for c in plan.candidates if c.changes and c.position >= request.boundary
            ]
            results.append(Reply([p for p in found if p][: request.count], plan.cost))
            plan.cost = Cost()
        return results

    def _plan(self, gradients: Gradients) -> _Plan:
        if gradients.plan is None:
            candidates = [
                _Candidate(gradients, i, _hard_sequence(gradients, i, None))
                for i in uncertain(gradients)
            ]
            gradients.plan = _Plan(candidates)
        plan: _Plan = gradients.plan
        return plan

    def _due(self, request: Propose, plan: _Plan) -> list[_Candidate]:
        """What must be resolved before the request can be answered: the first unresolved
        position, and with it every later one that needs no further sweep."""
        found = 0
        for index, candidate in enumerate(plan.candidates):
            if candidate.position < request.boundary:
                continue
            if not candidate.done:
                known = request.gradients.slopes
                ready = [
                    c
                    for c in plan.candidates[index + 1 :]
                    if not c.done and c.rows is None and c.needs in known
                ]
                return [candidate, *ready]
            found += candidate.changes
            if found == request.count:
                break
        return []

    def _sweep_missing(self, due: list[_Candidate]) -> None:
        missing: dict[tuple[int, tuple[int, ...]], _Candidate] = {}
        for candidate in due:
            if candidate.needs not in candidate.gradients.slopes:
                missing.setdefault((id(candidate.gradients), candidate.needs), candidate)
        if not missing:
            return
        by_config: dict[NablaConfig, list[_Candidate]] = {}
        for candidate in missing.values():
            by_config.setdefault(candidate.gradients.config, []).append(candidate)
        for config, members in by_config.items():
            tasks = [
                Task(c.gradients.context, c.needs, c.position, c.gradients.guide_memory)
                for c in members
            ]
            memories = [c.gradients.response.memory for c in members]
            with torch.enable_grad():
                lm_reads, rm_reads = self._guide.slopes(tasks, memories, config)
            for c, task, lm, rm in zip(members, tasks, lm_reads, rm_reads, strict=True):
                assert rm.slope is not None
                c.gradients.slopes[c.needs] = Slopes(c.position, lm.slope, rm.slope)
                c.gradients.plan.cost += task.cost

    def _resolve(self, due: list[_Candidate], keys: dict[int, DrawKey]) -> None:
        groups: dict[tuple[NablaConfig, bool], list[_Candidate]] = {}
        for candidate in due:
            fresh = candidate.rows is None
            groups.setdefault((candidate.gradients.config, fresh), []).append(candidate)
        for (config, fresh), members in groups.items():
            for start in range(0, len(members), self._most_rows):
                block = members[start : start + self._most_rows]
                self._resolve_block(block, config, fresh, keys)

    def _resolve_block(
        self, block: list[_Candidate], config: NablaConfig, fresh: bool, keys: dict[int, DrawKey]
    ) -> None:
        anchored = config.anchor == "rollout"
        states = torch.cat([hidden_at(c.gradients, [c.position]) for c in block])
        logits = self._guide.lm.logits(states)
        g = self._rows(block, logits)
        if fresh:
            rows = self._start(block, states, logits, config, anchored)
            self._select(block, g, config)
            chosen = [k for k, c in enumerate(block) if c.selected]
            if not chosen:
                return
            block, rows, g = [block[k] for k in chosen], _take(rows, chosen), g[chosen]
        else:
            rows = _merge([c.rows for c in block if c.rows is not None])
        done = optimise(rows, g, config.dto, anchored=anchored).tolist()
        finished = [k for k, d in enumerate(done) if d]
        if finished:
            self._finish([block[k] for k in finished], _take(rows, finished), config, keys)
        hard = rows.hard.tolist()
        for k, candidate in enumerate(block):
            if not done[k]:
                candidate.rows = _take(rows, [k])
                candidate.needs = _hard_sequence(candidate.gradients, candidate.position, hard[k])

    def _start(
        self,
        block: list[_Candidate],
        states: Tensor,
        logits: Tensor,
        config: NablaConfig,
        anchored: bool,
    ) -> Rows:
        y = torch.tensor([c.gradients.response.tokens[c.position] for c in block])
        latent = config.dto.variable == "latents"
        head = self._guide.lm.head.weight if latent else None
        x = states.float() if latent else logits
        return Rows.start(x, y.to(logits.device), head, self._banned, anchored=anchored)

    def _select(self, block: list[_Candidate], g: Tensor, config: NablaConfig) -> None:
        sizes = norms(g, self._banned, config.select).tolist()
        for candidate, size in zip(block, sizes, strict=True):
            candidate.grad_norm = size
            candidate.selected = size >= config.select.grad_threshold

    def _rows(self, block: list[_Candidate], logits: Tensor) -> Tensor:
        chosen = [(c.gradients, c.gradients.slopes[c.needs], c.position) for c in block]
        return rows_at(self._guide, chosen, logits)

    def _finish(
        self,
        block: list[_Candidate],
        rows: Rows,
        config: NablaConfig,
        keys: dict[int, DrawKey],
    ) -> None:
        numbers = [uniform(keys[id(c.gradients)], c.position) for c in block]
        drawn = torch.tensor(numbers, dtype=torch.float64, device=rows.x.device)
        tokens = draw(rows.logits(), config.resample, drawn)
        first = [_hard_sequence(c.gradients, c.position, None) for c in block]
        logits = self._guide.lm.logits(
            torch.cat([hidden_at(c.gradients, [c.position]) for c in block])
        )
        chosen = [
            (c.gradients, c.gradients.slopes[s], c.position)
            for c, s in zip(block, first, strict=True)
        ]
        g = rows_at(self._guide, chosen, logits)
        gain = (g.gather(-1, rows.y[:, None]) - g.gather(-1, tokens[:, None])).squeeze(-1)
        for c, y, b, won in zip(
            block, rows.y.tolist(), tokens.tolist(), gain.tolist(), strict=True
        ):
            confidence = float(c.gradients.lm.says.confidence[c.position - c.gradients.start])
            c.rows = None
            c.proposal = Proposal(c.position, y, b, confidence, c.grad_norm, won)


def _hard_sequence(gradients: Gradients, position: int, hard: int | None) -> tuple[int, ...]:
    """The tokens gradients are taken at when `position` is optimised and `hard` stands there
    (None: where the optimisation starts). Anchored on the rollout, the rest is the response;
    anchored on the argmax, what is ahead is the argmax of every position."""
    y = gradients.response.tokens
    if gradients.config.anchor == "rollout":
        return y if hard is None else (*y[:position], hard, *y[position + 1 :])
    top = gradients.lm.says.top[position - gradients.start :].tolist()
    first = top[0] if hard is None else hard
    return (*y[:position], first, *top[1:])


def _take(rows: Rows, index: list[int]) -> Rows:
    part = {n: getattr(rows, n)[index] for n in ("x", "m", "v", "t", "hard", "y", "top")}
    return Rows(**part, head=rows.head, banned=rows.banned)


def _merge(parts: list[Rows]) -> Rows:
    names = ("x", "m", "v", "t", "hard", "y", "top")
    joined = {n: torch.cat([getattr(p, n) for p in parts]) for n in names}
    return Rows(**joined, head=parts[0].head, banned=parts[0].banned)
