"""What a sweep proposes, against literal code for one position at a time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PhiConfig, PhiForCausalLM

from nabla_core.config import DTO, Engine, NablaConfig, Objective, Ranked, Sampling, Select
from nabla_core.draws import DrawKey, uniform
from nabla_core.engines import left_to_right
from nabla_core.engines.base import Engines
from nabla_core.errors import NonFiniteError
from nabla_core.requests import Context, Proposal, Propose, Response, Sweep
from tests.core.reference import Literal, guide_of, rolled_out, serve
from tests.core.tiny import Family, characters, greedy_search, one_hots, qwen2, reward_folder, save
from tests.oracle.literal import rate, sample_token

KEY = DrawKey(0, "p", 0, "resample")


def proposed(
    engines: Engines,
    contexts: list[Context],
    responses: list[Response],
    config: NablaConfig,
    *,
    boundary: int = 0,
    count: int = 1000,
) -> list[list[Proposal]]:
    swept = serve(
        engines, [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    )
    return serve(engines, [Propose(s.gradients, boundary, count, KEY) for s in swept])


def changes(proposals: list[Proposal]) -> list[tuple[int, int, int]]:
    return [(p.position, p.from_token, p.to_token) for p in proposals]


# Left to right ---------------------------------------------------------------------------------


class OnePosition:
    """Selection, optimisation and resampling of one position, a fresh gradient at every step."""

    def __init__(self, literal: Literal, config: NablaConfig, banned: Tensor) -> None:
        self.literal, self.config, self.banned = literal, config, banned

    def states(self, context: Context, y: tuple[int, ...]) -> Tensor:
        """The last hidden states `[T, D]` that predicted each token."""
        ids = torch.tensor([[*context.lm, *y]])
        with torch.no_grad():
            hidden = self.literal.lm.base_model(input_ids=ids).last_hidden_state[0]
        return hidden[len(context.lm) - 1 : -1]

    def gradient(self, context: Context, y: tuple[int, ...], i: int, token: int) -> Tensor:
        ahead = y[i + 1 :]
        if self.config.anchor == "argmax":
            head = self.literal.lm.get_output_embeddings()
            logits = head(self.states(context, y)).masked_fill(self.banned, float("-inf"))
            ahead = tuple(logits[i + 1 :].argmax(-1).tolist())
        hard = (*y[:i], token, *ahead)
        return self.literal.gradient(context, hard, self.config.objective)[i]

    def propose(self, context: Context, y: tuple[int, ...], i: int) -> int | None:
        """The token drawn for position i, None where it is not selected."""
        select, dto = self.config.select, self.config.dto
        head = self.literal.lm.get_output_embeddings()
        state = self.states(context, y)[i]
        latents = dto.variable == "latents"
        x = (state if latents else head(state)).clone().requires_grad_()

        def logits() -> Tensor:
            return (head(x) if latents else x).masked_fill(self.banned, float("-inf"))

        if logits().softmax(-1).max() > select.confidence_threshold:
            return None
        top = int(logits().argmax())
        anchored = self.config.anchor == "rollout"
        start = y[i] if anchored else top
        g = self.gradient(context, y, i, start)[~self.banned]
        g = g - g.mean() if select.norm == "centred" else g
        if g.norm() < select.grad_threshold:
            return None
        adam = torch.optim.Adam([x], lr=dto.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda t: rate(dto, t))
        for _ in range(dto.max_iters):
            token = int(logits().argmax())
            token = y[i] if anchored and token == top else token
            g = self.gradient(context, y, i, token).masked_fill(self.banned, 0.0)
            soft = logits().softmax(-1)
            (x.grad,) = torch.autograd.grad((soft * g).sum(), x)
            adam.step()
            schedule.step()
        return sample_token(logits().detach(), self.config.resample, uniform(KEY, i))


def literal_changes(
    family: Family, engines: Engines, contexts: Any, responses: Any, config: NablaConfig
) -> list[list[tuple[int, int, int]]]:
    literal = Literal(family, engines)
    banned = torch.arange(len(literal.ids)) >= literal.vocabulary
    one = OnePosition(literal, config, banned)
    found = []
    for context, response in zip(contexts, responses, strict=True):
        y = response.tokens
        drawn = [(i, y[i], one.propose(context, y, i)) for i in range(len(y))]
        found.append([(i, a, b) for i, a, b in drawn if b not in (None, a)])
    return found


def dto(rate: float, **more: Any) -> DTO:
    return DTO(learning_rate=rate, max_iters=6, **more)


SETTINGS = {
    "logits": greedy_search(dto=dto(0.5)),
    "latents": greedy_search(dto=dto(0.3, variable="latents")),
    "latents, argmax": greedy_search(
        dto=dto(0.3, variable="latents", warmup_steps=2), anchor="argmax"
    ),
    "resampled": greedy_search(dto=dto(0.5), resample=Sampling(0.5, 0.9)),
    "norm": greedy_search(select=Select(0.98, 0.0, 3.0), dto=dto(0.2)),
    "centred norm": greedy_search(select=Select(0.98, 0.0, 3.0, norm="centred"), dto=dto(0.2)),
    "likelihood": greedy_search(dto=dto(0.5), objective=Objective(0.5, 0.5), anchor="argmax"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_left_to_right_proposals_equal_the_literal_ones(family: Family, name: str):
    """On sampled rollouts, so that hard tokens are often not the argmax."""
    config = SETTINGS[name]
    engines = family.engines()
    contexts, responses = rolled_out(engines, 3)
    found = proposed(engines, contexts, responses, config)
    expected = literal_changes(family, engines, contexts, responses, config)
    assert [changes(p) for p in found] == expected
    assert sum(map(len, expected)) > 3


def test_latents_pass_through_a_head_with_a_bias(tmp_path: Path):
    tokenizer = characters("0123456789+-*")
    torch.manual_seed(0)
    config = PhiConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.25,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = PhiForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias, std=2.0)
    lm = save(tmp_path / "lm", model, tokenizer)
    rm = reward_folder(tmp_path / "rm", qwen2(len(tokenizer), num_labels=1), tokenizer, seed=1)
    family = Family(lm, rm, rm)
    engines = family.engines()
    contexts, responses = rolled_out(engines, 4)
    for name in ("logits", "latents"):
        found = proposed(engines, contexts, responses, SETTINGS[name])
        expected = literal_changes(family, engines, contexts, responses, SETTINGS[name])
        assert [changes(p) for p in found] == expected, name


def test_mirror_proposals_are_the_closed_form(family: Family):
    eta = 0.8
    config = greedy_search(dto=DTO(optimizer="mirror", eta=eta), resample=Sampling(0.7))
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 4)
    found = proposed(engines, contexts, responses, config)
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = response.tokens
        g = literal.gradient(context, y, config.objective)
        with torch.no_grad():
            log_p = literal.log_p(context, one_hots(y, len(literal.ids)))
        expected = []
        for i in range(len(y)):
            if log_p[i].exp().max() > config.select.confidence_threshold:
                continue
            row = log_p[i].double() - eta * g[i]
            row[literal.vocabulary :] = float("-inf")
            b = sample_token(row, config.resample, uniform(KEY, i))
            if b != y[i]:
                expected.append((i, y[i], b))
        assert changes(proposals) == expected


def test_update_postfix_runs_a_candidate_once_for_each_before_it(plain: Family):
    """In closed form: the n-th candidate's logits have moved n mirror steps."""
    config = greedy_search(
        dto=DTO(optimizer="mirror", eta=0.3, update_postfix=True),
        resample=Sampling(0.7),
        exact=False,
    )
    engines = plain.engines()
    literal = Literal(plain, engines)
    contexts, responses = rolled_out(engines, 4)
    found = proposed(engines, contexts, responses, config)
    moved = 0
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = response.tokens
        g = literal.gradient(context, y, config.objective)
        with torch.no_grad():
            log_p = literal.log_p(context, one_hots(y, len(literal.ids)))
        expected, runs = [], 0
        for i in range(len(y)):
            if log_p[i].exp().max() > config.select.confidence_threshold:
                continue
            runs += 1
            row = log_p[i].double() - 0.3 * runs * g[i]
            row[literal.vocabulary :] = float("-inf")
            b = sample_token(row, config.resample, uniform(KEY, i))
            if b != y[i]:
                expected.append((i, y[i], b))
        assert changes(proposals) == expected
        moved += len(expected) * (runs > 1)
    assert moved


def test_noise_changes_proposals_and_repeats(plain: Family):
    """Gumbel noise is keyed by prompt and position: another key, other proposals."""
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 4)
    noisy = greedy_search(dto=dto(0.3, gumbel_noise=2.0), exact=False)
    once, twice = (proposed(engines, contexts, responses, noisy) for _ in range(2))
    plainly = proposed(engines, contexts, responses, greedy_search(dto=dto(0.3)))
    assert once == twice
    assert [changes(p) for p in once] != [changes(p) for p in plainly]


def test_the_numbers_of_a_proposal(plain: Family):
    engines = plain.engines()
    literal = Literal(plain, engines)
    contexts, responses = rolled_out(engines, 3)
    config = greedy_search()
    for context, response, proposals in zip(
        contexts, responses, proposed(engines, contexts, responses, config), strict=True
    ):
        g = literal.gradient(context, response.tokens, config.objective)
        with torch.no_grad():
            p = literal.log_p(context, one_hots(response.tokens, 24)).exp()
        assert proposals
        for q in proposals:
            row = g[q.position]
            assert q.from_token == response.tokens[q.position]
            assert q.confidence == pytest.approx(float(p[q.position].max()), rel=1e-4)
            assert q.grad_norm == pytest.approx(float(row.norm()), rel=1e-3)
            gain = float(row[q.from_token] - row[q.to_token])
            assert q.predicted_gain == pytest.approx(gain, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("anchor", ["rollout", "argmax"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_proposals_do_not_depend_on_how_many_are_asked_for(plain: Family, count: int, anchor: str):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 2)
    config = greedy_search(anchor=anchor, dto=dto(0.5))
    whole = proposed(engines, contexts, responses, config)
    swept = serve(
        engines, [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    )
    for s, expected in zip(swept, whole, strict=True):
        found: list[Proposal] = []
        boundary = 0
        while True:
            (block,) = serve(engines, [Propose(s.gradients, boundary, count, KEY)])
            found += block
            if len(block) < count:
                break
            boundary = block[-1].position + 1
        assert changes(found) == changes(expected)


def test_without_flips_no_sweep_follows_the_first(plain: Family):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    config = greedy_search(dto=DTO(learning_rate=1e-4), resample=Sampling(2.0))
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    engine = engines.serving(Propose)
    engine.submit(0, Propose(swept.gradients, 0, 100, KEY))
    ((_, reply),) = engine.step()
    assert not isinstance(reply, Exception)
    assert len(reply.value) > 1
    assert (reply.cost.rm_backward, reply.cost.lm_forward, reply.cost.paper_calls) == (0, 0, 0)


def test_flips_are_swept_once_lazily_and_booked(plain: Family):
    engines = plain.engines()
    engine = engines.serving(Propose)
    contexts, responses = rolled_out(engines, 3)
    config = greedy_search()

    def ask(gradients: Any, count: int) -> Any:
        engine.submit(0, Propose(gradients, 0, count, KEY))
        ((_, reply),) = engine.step()
        return reply

    for context, response in zip(contexts, responses, strict=True):
        (swept,) = serve(engines, [Sweep(context, response, 0, config)])
        first = ask(swept.gradients, 1)
        known = len(swept.gradients.slopes)
        assert first.cost.rm_backward == first.cost.lm_backward == known - 1
        assert first.cost.paper_calls == 4 * (known - 1)
        again = ask(swept.gradients, 1)
        assert again.value == first.value
        assert again.cost.rm_backward == 0
        rest = ask(swept.gradients, 1000)
        assert len(swept.gradients.slopes) - known == rest.cost.rm_backward > 0


@pytest.mark.parametrize("anchor", ["rollout", "argmax"])
def test_extra_sweeps_do_not_depend_on_what_shares_the_batch(plain: Family, anchor: str):
    """Rows that move at their last step need no gradient where they arrive."""
    engines = plain.engines()
    engine = engines.serving(Propose)
    contexts, responses = rolled_out(engines, 6)
    config = greedy_search(anchor=anchor, dto=DTO(learning_rate=1.0, min_lr_ratio=1.0, max_iters=2))
    requests = [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]

    def costs(swept: list[Any]) -> list[tuple[int, int]]:
        for n, s in enumerate(swept):
            engine.submit(n, Propose(s.gradients, 0, 3, KEY))
        replies = dict(engine.step())
        return [(replies[n].cost.rm_backward, replies[n].cost.paper_calls) for n in replies]

    together = costs(serve(engines, requests))
    alone = [costs([s])[0] for s in serve(engines, requests)]
    assert together == alone
    assert sum(backward for backward, _ in alone) > 6


def test_sweeps_of_flips_are_bounded_by_tokens(plain: Family, monkeypatch: pytest.MonkeyPatch):
    engines = plain.engines(Engine(device="cpu", max_batch_tokens=40))
    contexts, responses = rolled_out(engines, 6)
    config = greedy_search(dto=dto(0.5))
    swept = serve(
        engines, [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    )
    guide = guide_of(engines)
    slopes = guide.slopes
    batches: list[int] = []

    def watched(tasks: Any, *others: Any) -> Any:
        longest = max(len(t.context.lm) + len(t.tokens) for t in tasks)
        batches.append(longest * len(tasks))
        return slopes(tasks, *others)

    monkeypatch.setattr(guide, "slopes", watched)
    serve(engines, [Propose(s.gradients, 0, 3, KEY) for s in swept])
    assert len(batches) > 3
    assert max(batches) <= 40


def test_states_of_bf16_models_are_fp32_and_small_steps_count(
    plain: Family, monkeypatch: pytest.MonkeyPatch
):
    """In bf16 a step at the published rate is below the spacing of numbers."""
    engines = plain.engines(Engine(device="cpu", dtype="bfloat16"))
    assert guide_of(engines).lm.table.dtype == torch.bfloat16
    moved: list[float] = []

    def watched(rows: Any, g: Tensor, config: DTO, *, anchored: bool) -> Tensor:
        before = rows.x.clone()
        done = optimise(rows, g, config, anchored=anchored)
        assert {t.dtype for t in (rows.x, rows.m, rows.v, g, rows.logits())} == {torch.float32}
        moved.append(float((rows.x - before).abs().max()))
        return done

    optimise = left_to_right.optimise
    monkeypatch.setattr(left_to_right, "optimise", watched)
    for variable in ("logits", "latents"):
        moved.clear()
        contexts, responses = rolled_out(engines, 3)
        proposed(engines, contexts, responses, greedy_search(dto=DTO(variable=variable)))
        # Twenty steps at .01 falling to .001: Adam moves at most about their sum.
        assert 0.05 < moved[0] < 0.13


# Ranked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ranked", [Ranked(), Ranked(eta=0.5, stop=-4.0), Ranked(eta=0, stop=-3.0), Ranked(stop=0.0)]
)
def test_ranked_proposals_are_the_best_pairs_of_all(family: Family, ranked: Ranked):
    config = NablaConfig(proposals="ranked", ranked=ranked, max_rollouts=10)
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 4)
    found = proposed(engines, contexts, responses, config, boundary=3, count=10)
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = list(response.tokens)
        g = literal.gradient(context, response.tokens, config.objective).double()
        with torch.no_grad():
            log_p = literal.log_p(context, one_hots(y, len(literal.ids))).double()
        scores = {
            (i, y[i], b): float(ranked.eta * (g[i, y[i]] - g[i, b]) + log_p[i, b] - log_p[i, y[i]])
            for i in range(len(y))
            for b in range(literal.vocabulary)
            if b != y[i]
        }
        expected = sorted((k for k in scores if scores[k] > ranked.stop), key=lambda k: -scores[k])
        assert changes(proposals) == expected[:10]
        for q in proposals:
            gain = float(g[q.position, q.from_token] - g[q.position, q.to_token])
            wanted = gain if ranked.eta else 0.0
            assert q.predicted_gain == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_a_nucleus_keeps_proposals_to_likely_tokens(family: Family):
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 3)
    whole = NablaConfig(proposals="ranked", ranked=Ranked(stop=-100.0), max_rollouts=500)
    within = NablaConfig(
        proposals="ranked", ranked=Ranked(stop=-100.0, nucleus=0.6), max_rollouts=500
    )
    every = proposed(engines, contexts, responses, whole)
    some = proposed(engines, contexts, responses, within)
    for context, response, all_pairs, kept in zip(contexts, responses, every, some, strict=True):
        with torch.no_grad():
            p = literal.log_p(context, one_hots(response.tokens, len(literal.ids))).exp()
        likely = set()
        for i, row in enumerate(p.tolist()):
            mass = 0.0
            for b in sorted(range(len(row)), key=lambda b, row=row: -row[b]):
                if mass >= 0.6:
                    break
                mass += row[b]
                likely.add((i, b))
        expected = [c for c in changes(all_pairs) if (c[0], c[2]) in likely]
        assert changes(kept) == expected
        assert 0 < len(expected) < len(all_pairs)


def test_tried_pairs_are_left_out_and_the_ranking_lasts(plain: Family):
    """A search of n rollouts that carries n - 1 tried pairs still gets n proposals."""
    config = NablaConfig(proposals="ranked", ranked=Ranked(stop=-100.0), max_rollouts=4)
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    (best,) = serve(engines, [Propose(swept.gradients, 0, 8, KEY)])
    assert len(best) == 8
    tried = frozenset((p.position, p.to_token) for p in best[:4])
    (rest,) = serve(engines, [Propose(swept.gradients, 0, 4, KEY, tried)])
    assert rest == best[4:]


# Without a gradient ----------------------------------------------------------------------------


def test_the_second_choice_is_the_best_other_token(family: Family):
    engines = family.engines()
    literal = Literal(family, engines)
    contexts, responses = rolled_out(engines, 4)
    config = greedy_search(proposals="second")
    found = proposed(engines, contexts, responses, config, boundary=1)
    for context, response, proposals in zip(contexts, responses, found, strict=True):
        y = response.tokens
        with torch.no_grad():
            p = literal.log_p(context, one_hots(y, len(literal.ids))).exp()
        expected = []
        for i in range(1, len(y)):
            if p[i].max() <= 0.98:
                others = p[i].clone()
                others[y[i]] = -1
                expected.append((i, y[i], int(others.argmax())))
        assert changes(proposals) == expected


def test_random_flips_take_every_other_token_alike(plain: Family):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    config = greedy_search(proposals="random")
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    asked = [Propose(swept.gradients, 0, 3, DrawKey(n, "p", 0, "resample")) for n in range(800)]
    drawn = [p for proposals in serve(engines, asked) for p in proposals]
    assert len(drawn) == 2400
    assert all(p.from_token != p.to_token for p in drawn)
    counts = Counter((p.position, p.to_token) for p in drawn)
    # 23 other tokens at each of three positions.
    assert len(counts) == 69
    assert sum((c - 2400 / 69) ** 2 / (2400 / 69) for c in counts.values()) < 110


# What the guide cannot read -------------------------------------------------------------------


@pytest.mark.parametrize("proposals", ["left_to_right", "ranked", "second", "random"])
def test_tokens_the_guide_does_not_know_are_never_proposed(
    plain: Family, tmp_path: Path, proposals: str
):
    fewer = characters("0123456789+-*;=(),")  # without / . and :
    rm = reward_folder(tmp_path / "rm", qwen2(len(fewer), num_labels=1), fewer, seed=7)
    family = Family(plain.lm, rm, rm)
    engines = family.engines(coverage=0.8)
    unknown = set(plain.tokenizer("lm").convert_tokens_to_ids(["/", ".", ":"]))
    contexts, responses = rolled_out(engines, 8)
    chosen = [
        (c, r) for c, r in zip(contexts, responses, strict=True) if not unknown & set(r.tokens)
    ]
    assert chosen
    config = greedy_search(
        proposals=proposals, ranked=Ranked(stop=-100.0), max_rollouts=100, resample=Sampling(3.0)
    )
    found = proposed(engines, [c for c, _ in chosen], [r for _, r in chosen], config)
    tokens = {p.to_token for proposals in found for p in proposals}
    assert len(tokens) > 3
    assert not tokens & unknown


def test_a_gradient_of_a_flip_that_is_not_finite_fails_its_prompt_alone(
    plain: Family, monkeypatch: pytest.MonkeyPatch
):
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 4)
    config = greedy_search()
    requests = [Sweep(c, r, 0, config) for c, r in zip(contexts, responses, strict=True)]
    swept = serve(engines, requests)
    healthy = serve(engines, [Propose(s.gradients, 0, 1000, KEY) for s in swept])
    flipped = list(swept[1].gradients.slopes)[-1]
    assert flipped != responses[1].tokens
    guide = guide_of(engines)
    slopes = guide.slopes

    def fragile(tasks: Any, *others: Any) -> Any:
        if any(task.tokens == flipped for task in tasks):
            raise NonFiniteError("a reward gradient is not finite")
        return slopes(tasks, *others)

    monkeypatch.setattr(guide, "slopes", fragile)
    swept = serve(engines, requests)
    found = serve(engines, [Propose(s.gradients, 0, 1000, KEY) for s in swept])
    assert isinstance(found[1], NonFiniteError)
    assert [changes(found[n]) for n in (0, 2, 3)] == [changes(healthy[n]) for n in (0, 2, 3)]


@pytest.mark.parametrize("proposals", ["left_to_right", "ranked"])
def test_rows_that_are_not_finite_are_an_error_and_not_an_end_of_the_search(
    plain: Family, proposals: str
):
    """One broken row of the table spoils every comparison without any text that reads it."""
    engines = plain.engines()
    contexts, responses = rolled_out(engines, 1)
    config = greedy_search(proposals=proposals)
    (swept,) = serve(engines, [Sweep(contexts[0], responses[0], 0, config)])
    guide_of(engines).reader.rm.table[2] = float("nan")
    (found,) = serve(engines, [Propose(swept.gradients, 0, 5, KEY)])
    assert isinstance(found, NonFiniteError)
