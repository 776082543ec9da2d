"""Left-to-right proposals: select, optimise (DTO), resample (paper, section 3).

One sweep serves every position of a response. For a fixed hard token sequence the gradient at
position j does not depend on which earlier tokens are committed: LM terms before j do not see
token j, and the reward is the same function at the same point. So all candidates are optimised
as one batch, without a model call. If the argmax of a candidate moves, it needs the gradient
row of one more hard sequence. That sequence is swept only when the search reaches the
candidate: most searches end before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nabla_core.config import NablaConfig
from nabla_core.draws import DrawKey, uniform
from nabla_core.guides.base import Gradients, Guide
from nabla_core.models.forward import BLOCK
from nabla_core.models.readers import Task
from nabla_core.proposals.candidates import Candidate, Plan, hard_sequence, plan_of
from nabla_core.proposals.dto import Rows, optimise
from nabla_core.proposals.positions import (
    banned_ids,
    hidden_at,
    norms,
    rows_at,
)
from nabla_core.requests import Proposal, Propose, Reply, Result
from nabla_core.sampling import draw
from nabla_core.types import Cost

# A candidate and the sweep of its response. The sweep is no field of the candidate: the cycle
# of references would hold the response's tensors until a garbage collection.
_Due = tuple[Gradients, Candidate]


class LeftToRight:
    """Makes left-to-right proposals for many responses at once."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._banned = banned_ids(guide)
        self._max_rows = max(1, BLOCK // guide.lm.head.out_features)

    def propose(self, requests: Sequence[Propose]) -> list[Result]:
        """The next proposals of each request, in order of position."""
        plans = [plan_of(r.gradients) for r in requests]
        keys = {id(r.gradients): r.key for r in requests}
        # Each round resolves the first open position of every request. A round ends early for
        # candidates whose argmax moved; the next one sweeps what they need.
        while True:
            due = [
                (request.gradients, candidate)
                for request, plan in zip(requests, plans, strict=True)
                for candidate in self._due(request, plan)
            ]
            if not due:
                break
            self._sweep_missing(due)
            self._resolve(due, keys)
        results: list[Result] = []
        for request, plan in zip(requests, plans, strict=True):
            later = [c for c in plan.candidates if c.changes and c.position >= request.boundary]
            proposals = [c.proposal for c in later if c.proposal is not None]
            results.append(Reply(proposals[: request.count], plan.cost))
            plan.cost = Cost()  # the next reply carries what is added from here on
        return results

    def _due(self, request: Propose, plan: Plan) -> list[Candidate]:
        """What must be resolved before the request can be answered: the first open position,
        and with it every later one that needs no further sweep. Empty where the request can be
        answered."""
        resolved = 0
        known = request.gradients.guide_states
        for index, candidate in enumerate(plan.candidates):
            if candidate.position < request.boundary:
                continue
            if not candidate.done:
                later = plan.candidates[index + 1 :]
                return [candidate, *(c for c in later if not c.done and c.needs in known)]
            if candidate.changes:
                resolved += 1
            if resolved == request.count:
                break
        return []

    def _sweep_missing(self, due: list[_Due]) -> None:
        """Sweep the hard sequences that candidates need and the guide has not read."""
        missing: dict[tuple[int, tuple[int, ...]], _Due] = {}
        for gradients, candidate in due:
            if candidate.needs not in gradients.guide_states:
                missing.setdefault((id(gradients), candidate.needs), (gradients, candidate))
        for config, members in _by_config(missing.values()).items():
            tasks = [Task(g.context, c.needs, c.position, g.guide_cache) for g, c in members]
            caches = [g.response.cache for g, _ in members]
            # Proposals are made under no_grad; a sweep needs autograd.
            with torch.enable_grad():
                reads = self._guide.read(tasks, caches, config)
            for (g, c), task, read in zip(members, tasks, reads, strict=True):
                g.guide_states[c.needs] = read.guide_state
                g.plan.cost += task.cost

    def _resolve(self, due: list[_Due], keys: dict[int, DrawKey]) -> None:
        for config, members in _by_config(due).items():
            for start in range(0, len(members), self._max_rows):
                self._resolve_block(members[start : start + self._max_rows], config, keys)

    def _resolve_block(
        self, block: list[_Due], config: NablaConfig, keys: dict[int, DrawKey]
    ) -> None:
        """Optimise a block of candidates until each is done or needs an unknown gradient.

        Such a candidate starts again in a later round. That repeats a few steps of arithmetic;
        to keep its state would hold several `[V]` tensors for every candidate that waits.
        """
        states = torch.cat([hidden_at(g, [c.position]) for g, c in block])
        logits = self._guide.lm.logits(states)
        self._add_cost(block, self._guide.lm.shape.head(1))
        first = self._rows(block, [hard_sequence(g, c.position, None) for g, c in block], logits)
        sizes = norms(first, self._banned, config.select).tolist()
        for (_, candidate), size in zip(block, sizes, strict=True):
            candidate.grad_norm = size
            candidate.selected = size >= config.select.grad_threshold
        rows = self._initial_rows(block, states, logits, config, keys)
        # As in the release, `update_postfix` optimises all candidates whenever one is visited:
        # the n-th has been through n runs of the optimiser.
        runs = [1 + c.earlier if config.dto.update_postfix else 1 for _, c in block]
        # `kept` are the rows still under optimisation, `current` the gradient row of each at its
        # present hard token.
        kept = [k for k, (_, c) in enumerate(block) if c.selected]
        current = first.clone()
        finished: list[int] = []
        while kept:
            part, g = rows.take(kept), current[kept]
            done = optimise(part, g, config.dto, anchored=config.anchor == "rollout").tolist()
            rows.put(kept, part)
            ended = [k for k, d in zip(kept, done, strict=True) if d]
            moved = [k for k, d in zip(kept, done, strict=True) if not d]
            for k in ended:
                runs[k] -= 1
            repeated = [k for k in ended if runs[k]]
            rows.restart(repeated)
            finished += [k for k in ended if not runs[k]]
            kept = repeated + self._follow(block, moved, rows, current, logits)
        if finished:
            chosen = [block[k] for k in finished]
            self._finish(chosen, rows.take(finished), first[finished], config, keys)

    def _follow(
        self, block: list[_Due], moved: list[int], rows: Rows, current: Tensor, logits: Tensor
    ) -> list[int]:
        """Give rows whose hard token moved the gradient row of their new hard sequence. Returns
        those for which it is known; the others wait for a sweep."""
        hard = rows.hard.tolist()
        sequences = {k: hard_sequence(block[k][0], block[k][1].position, hard[k]) for k in moved}
        for k, sequence in sequences.items():
            if sequence not in block[k][0].guide_states:
                block[k][1].needs = sequence
        known = [k for k in moved if sequences[k] in block[k][0].guide_states]
        if known:
            current[known] = self._rows(
                [block[k] for k in known], [sequences[k] for k in known], logits[known]
            )
        return known

    def _initial_rows(
        self,
        block: list[_Due],
        states: Tensor,
        logits: Tensor,
        config: NablaConfig,
        keys: dict[int, DrawKey],
    ) -> Rows:
        y = torch.tensor([g.response.tokens[c.position] for g, c in block], device=logits.device)
        latent = config.dto.variable == "latents"
        head = self._guide.lm.head if latent else None
        x = states.float() if latent else logits
        stream = None
        if config.dto.gumbel_noise:
            stream = torch.tensor([_noise_seed(keys[id(g)], c.position) for g, c in block])
        anchored = config.anchor == "rollout"
        return Rows.start(
            x,
            y,
            head,
            self._banned,
            anchored=anchored,
            stream=stream,
            logit_map=self._guide.lm.logit_map,
        )

    def _rows(self, block: list[_Due], sequences: list[tuple[int, ...]], logits: Tensor) -> Tensor:
        chosen = [
            (g, g.guide_states[sequence], c.position)
            for (g, c), sequence in zip(block, sequences, strict=True)
        ]
        self._add_cost(block, self._guide.row_flops(block[0][0].config.objective))
        return rows_at(self._guide, chosen, logits)

    @staticmethod
    def _add_cost(block: list[_Due], flops: float) -> None:
        for gradients, _ in block:
            gradients.plan.cost += Cost(flops=flops)

    def _finish(
        self,
        block: list[_Due],
        rows: Rows,
        first: Tensor,
        config: NablaConfig,
        keys: dict[int, DrawKey],
    ) -> None:
        """Resample each token from the optimised logits (paper, section 3)."""
        numbers = [uniform(keys[id(g)], c.position) for g, c in block]
        # The counter of a draw is the position: other candidates cannot change it.
        drawn = torch.tensor(numbers, dtype=torch.float64, device=rows.x.device)
        tokens = draw(rows.logits(), config.resample, drawn)
        # By the row that the optimisation started from: that of the response itself.
        advantages = first.gather(-1, rows.y[:, None]) - first.gather(-1, tokens[:, None])
        results = zip(
            rows.y.tolist(), tokens.tolist(), advantages.squeeze(-1).tolist(), strict=True
        )
        for (g, c), (y, b, a) in zip(block, results, strict=True):
            confidence = float(g.lm.likelihood.confidence[c.position - g.start])
            c.proposal = Proposal(
                position=c.position,
                from_token=y,
                to_token=b,
                confidence=confidence,
                grad_norm=c.grad_norm,
                advantage=a,
            )


def _by_config(due: Iterable[_Due]) -> dict[NablaConfig, list[_Due]]:
    groups: dict[NablaConfig, list[_Due]] = {}
    for gradients, candidate in due:
        groups.setdefault(gradients.config, []).append((gradients, candidate))
    return groups


def _noise_seed(key: DrawKey, position: int) -> int:
    """The seed of the Gumbel noise at one position. Step t of DTO uses seed + t."""
    return int(uniform(replace(key, purpose="gumbel"), position) * 2**52)
