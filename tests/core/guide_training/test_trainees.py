"""Guides in training: what they say is what engines will make of them, and losses add up."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nabla_core import NablaConfig, Objective, Prompt, Ranked, Runtime
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import build_engines, kind_of
from nabla_core.errors import ContextError, ModelError, PromptError, VocabularyError
from nabla_core.guide_training.evaluation import SearchResult, agreement, search, spearman
from nabla_core.guide_training.examples import Batch, Example, Record, ScoredPosition
from nabla_core.guide_training.losses import loss
from nabla_core.guide_training.settings import Kind, Optimise, Target
from nabla_core.guide_training.trainees import Trainee, guide_encoder, open_trainee
from nabla_core.methods.counterfactuals import Explore, Place, explore
from nabla_core.models.loading import load_language_model
from nabla_core.models.readers import Reader
from nabla_core.requests import Render, Response, Sweep
from nabla_core.scheduler import drive
from tests.core.guides.test_head import head_on
from tests.core.reference import guide_of, serve
from tests.core.tiny import Family, greedy_search, prompts

CPU = torch.device("cpu")
OPEN = Optimise(freeze_embeddings=False)
KINDS: list[Kind] = ["gradient", "head"]


def records(engines: Engines) -> list[Record]:
    config = Explore(temperatures=(1.0,), positions=3, alternatives=4)
    asked = {p.id: p for p in prompts(5)}
    flows = [explore(p, config, lambda p, t: None, max_tokens=9) for p in asked.values()]
    made = sorted(drive(flows, engines), key=lambda e: e.prompt_id)
    return [Record(e.prompt_id, asked[e.prompt_id], e.tokens, e.score, e.places) for e in made]


def trainee_of(
    family: Family, kind: Kind, optimise: Optimise = OPEN, role: str = "guide"
) -> tuple[Trainee, Any, Any]:
    """The trainee, its tokenizer, the LM."""
    path = str(getattr(family, role))
    tokenizer = family.tokenizer(role)
    made = open_trainee(kind, path, tokenizer, optimise, revision=None, seed=3)
    if kind == "head":
        torch.manual_seed(9)
        torch.nn.init.normal_(made.model.get_output_embeddings().weight, std=0.3)
    lm = load_language_model(str(family.lm), revision=None, device=CPU, dtype=torch.float32)
    return made, tokenizer, lm


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_trainee_says_is_what_the_engines_make_of_it(family: Family, kind: Kind):
    engines = family.engines()
    trainee, tokenizer, lm = trainee_of(family, kind)
    found = records(engines)
    encoder = guide_encoder(kind, trainee, tokenizer, lm, 0.9)
    examples = [encoder.encode(record) for record in found]
    values, _ = trainee.predict(Batch.of(examples, CPU), differentiable=False)
    said = iter(values.tolist())
    judge = guide_of(engines).reader
    guided = build_engines(lm, judge, trainee.guide(lm, 0.9, Runtime()), Runtime(device="cpu"))
    guide = guided.serving(Sweep)._guide  # type: ignore[attr-defined]
    config = NablaConfig(
        proposals="ranked", ranked=Ranked(beta=1.0), objective=Objective(nll_coeff=0.0)
    )
    seen = 0
    for record, example in zip(found, examples, strict=True):
        (context,) = serve(guided, [Render(record.prompt)])
        request = Sweep(context, Response(record.tokens, "length"), 0, config)
        (swept,) = serve(guided, [request])
        state = swept.gradients.guide_states[record.tokens]
        start = len(context.guide[0])
        for tried in example.positions:
            position = tried.index - start
            logits = lm.logits(swept.gradients.lm.hidden[[position]].clone())
            row = -guide.rows([(state, position)], config.objective, logits)[0]
            (place,) = [p for p in record.places if p.position == position]
            expected = row[list(place.tokens)].tolist()
            assert next(said)[: len(place.tokens)] == pytest.approx(expected, abs=1e-3, rel=1e-3)
            seen += 1
    assert seen >= 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_learns_what_finite_differences_say(plain: Family, kind: Kind):
    """Through the second derivative where the kind needs one. In fp64 but for the norms."""
    trainee, tokenizer, lm = trainee_of(plain, kind)
    encoder = guide_encoder(kind, trainee, tokenizer, lm, 0.9)
    batch = Batch.of([encoder.encode(r) for r in records(plain.engines())], CPU)
    batch.scores, batch.score = batch.scores.double(), batch.score.double()
    trainee.model.double()
    target = Target(temperature=0.7, score=0.5 if kind == "gradient" else 0.0)
    weight = trainee.model.base_model.layers[1].mlp.down_proj.weight

    def lost() -> torch.Tensor:
        values, rewards = trainee.predict(batch)
        counts = {"responses": len(batch.ids), "positions": len(batch.row)}
        return double_loss(values, rewards, batch, target, **counts)

    (slope,) = torch.autograd.grad(lost(), weight)
    torch.manual_seed(0)
    direction = torch.randn_like(weight)
    step = 1e-4
    with torch.no_grad():
        weight += step * direction
        above = lost().item()
        weight -= 2 * step * direction
        below = lost().item()
    expected = (above - below) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(expected, rel=1e-2)


def double_loss(*arguments: Any, **counts: int) -> torch.Tensor:
    """`loss` takes what a guide says to fp32; here that would drown the difference."""
    values = arguments[0]
    values.float = lambda: values
    if arguments[1] is not None:
        arguments[1].float = lambda: arguments[1]
    return loss(*arguments, **counts)


PRIORS = (-0.3, -1.7, -2.5)


def example(name: str, *places: tuple[list[float], list[float]]) -> tuple[Example, list[Any]]:
    """A response with positions of (scores, what the guide says)."""
    tried = tuple(
        ScoredPosition(n + 1, tuple(range(len(scores))), tuple(scores), PRIORS[: len(scores)])
        for n, (scores, _) in enumerate(places)
    )
    return Example(name, name, tuple(range(8)), 0.0, tried), [said for _, said in places]


FIRST = example("a", ([0.0, 2.0], [0.5, 1.0]), ([1.0, 0.0, 1.5], [0.0, 0.2, -0.1]))
SECOND = example("b", ([0.0, -1.0, 0.5], [0.0, 0.0, 3.0]))


def lost(target: Target, *made: tuple[Example, list[Any]], **counts: int) -> float:
    batch = Batch.of([e for e, _ in made], CPU)
    rows = [said + [9.0] * (3 - len(said)) for _, places in made for said in places]
    counts = {"responses": len(made), "positions": len(rows)} | counts
    values = torch.tensor([row[: batch.tokens.size(1)] for row in rows])
    return loss(values, None, batch, target, **counts).item()


def softmax(values: list[float], temperature: float) -> list[float]:
    exp = [math.exp(v / temperature) for v in values]
    return [e / sum(exp) for e in exp]


def entropy(true: list[float], said: list[float], temperature: float) -> float:
    wanted, given = softmax(true, temperature), softmax(said, temperature)
    return -sum(w * math.log(g) for w, g in zip(wanted, given, strict=True))


def test_each_term_is_what_its_definition_says():
    only = Target(temperature=0.5, within=0.0, across=0.0, scale=0.0, score=1.0)
    within = [
        entropy([0.0, 2.0], [0.5, 1.0], 0.5),
        entropy([1.0, 0.0, 1.5], [0.0, 0.2, -0.1], 0.5),
    ]
    assert lost(replace(only, within=1.0), FIRST) == pytest.approx(sum(within) / 2)
    # Gains of all pairs of a response, the tokens taken with none.
    true, said = [0.0, 2.0, 0.0, -1.0, 0.5], [0.0, 0.5, 0.0, 0.2, -0.1]
    assert lost(replace(only, across=1.0), FIRST) == pytest.approx(entropy(true, said, 0.5))
    both = (entropy(true, said, 0.5) + entropy([0, -1, 0.5], [0, 0, 3], 0.5)) / 2
    assert lost(replace(only, across=1.0), FIRST, SECOND) == pytest.approx(both)
    # p exp(S / temperature) against p exp(P), p the LM's probabilities.
    mirror = 0.0
    for scores, said in (([0.0, 2.0], [0.5, 1.0]), ([1.0, 0.0, 1.5], [0.0, 0.2, -0.1])):
        wanted = [p + s / 0.5 for p, s in zip(PRIORS, scores, strict=False)]
        given = [p + s for p, s in zip(PRIORS, said, strict=False)]
        mirror += entropy(wanted, given, 1.0) / 2
    assert lost(replace(only, mirror=1.0), FIRST) == pytest.approx(mirror)
    huber = (1.5 - 0.5 + (1.2 - 0.5 + 0.5 * 0.6**2) / 2) / 2
    assert lost(replace(only, scale=1.0, huber_delta=1.0), FIRST) == pytest.approx(huber)


def test_the_loss_of_parts_adds_up_to_that_of_the_whole():
    target = Target()
    counts = {"responses": 2, "positions": 3}
    parts = lost(target, FIRST, **counts) + lost(target, SECOND, **counts)
    assert parts == pytest.approx(lost(target, FIRST, SECOND), rel=1e-5)


def test_ranks_of_equal_values_are_shared():
    assert spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 7.0, 9.0])) == pytest.approx(
        1
    )
    assert spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([9.0, 7.0, 5.0])) == pytest.approx(
        -1
    )
    tied = spearman(torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert tied == pytest.approx(0.9486833)
    assert spearman(torch.ones(3), torch.tensor([1.0, 2.0, 3.0])) == 0.0


class Said:
    """A trainee that says what it is told."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.model.device = CPU  # type: ignore[assignment]
        self.rows = torch.tensor(rows)

    def predict(self, batch: Batch, *, differentiable: bool = True) -> tuple[torch.Tensor, None]:
        return self.rows, None

    def guide(self, *_: Any) -> Any:
        raise NotImplementedError


def test_agreement_counts_positions_with_something_to_gain():
    found = agreement(
        Said([[0.5, 1.0, 0.0], [0.0, 0.2, -0.1], [0.0, 0.0, 3.0]]),
        [
            example("a", ([0.0, 2.0, 1.0], []), ([1.0, 0.0, 1.5], []))[0],
            example("b", ([0.0, -1.0, 0.5], []))[0],
        ],
        margin=0.4,
        size=64,
    )
    assert found.positions == 3
    assert found.top1 == pytest.approx(2 / 3)
    assert found.chance == 0.5
    assert found.within == pytest.approx((1 - 1 + 1) / 3)
    gains = [(0.5, 2.0), (-0.5, 1.0), (0.2, -1.0), (-0.1, 0.5), (0.0, -1.0), (3.0, 0.5)]
    slope = sum(s * t for s, t in gains) / sum(s * s for s, _ in gains)
    assert found.slope == pytest.approx(slope)


def test_guessing_finds_one_of_several_best_more_often():
    """Right and wrong by a verifier are all the scores there are."""
    found = agreement(
        Said([[0.0, 1.0, 2.0, 3.0]]),
        [example("a", ([0.0, 1.0, 1.0, 0.0], []))[0]],
        margin=0.4,
        size=64,
    )
    assert (found.top1, found.chance) == (0.0, pytest.approx(2 / 3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_learn_a_few_counterfactuals(plain: Family, kind: Kind):
    trainee, tokenizer, lm = trainee_of(plain, kind)
    encoder = guide_encoder(kind, trainee, tokenizer, lm, 0.9)
    examples = [encoder.encode(r) for r in records(plain.engines())]
    batch = Batch.of(examples, CPU)
    before = agreement(trainee, examples, margin=0.0, size=2)
    optimizer = torch.optim.AdamW(trainee.model.parameters(), lr=3e-3)
    for _ in range(150):
        values, rewards = trainee.predict(batch)
        counts = {"responses": len(batch.ids), "positions": len(batch.row)}
        optimizer.zero_grad()
        torch.autograd.backward(loss(values, rewards, batch, Target(), **counts))
        optimizer.step()
    after = agreement(trainee, examples, margin=0.0, size=64)
    one_by_one = agreement(trainee, examples, margin=0.0, size=1)
    assert one_by_one.as_dict() == pytest.approx(after.as_dict(), abs=1e-3)
    assert after.across > max(0.9, before.across)
    assert after.slope == pytest.approx(1.0, abs=0.2)


def test_search_is_the_loop_on_prompts(plain: Family):
    engines = plain.engines()
    config = greedy_search(proposals="ranked", ranked=Ranked(beta=1.0))
    found = search(
        engines, prompts(4), config, lambda p, text: p.id == "p1", max_tokens=9, in_flight=8
    )
    assert (found.accuracy, found.failed) == (0.25, 0)
    unanswered = search(
        engines, prompts(4), config, lambda p, text: None, max_tokens=9, in_flight=8
    )
    assert unanswered == replace(found, accuracy=None)


def test_prompts_that_cannot_be_searched_are_counted(plain: Family):
    """One too long for the context must not end a training."""
    engines = plain.engines()
    config = greedy_search(proposals="ranked", ranked=Ranked(beta=1.0))
    long = Prompt.of("1+" * 200, id="long")

    def found(*asked: Prompt) -> SearchResult:
        return search(engines, asked, config, lambda p, text: None, max_tokens=9, in_flight=8)

    assert found(prompts(2)[0], long, prompts(2)[1]) == replace(found(*prompts(2)), failed=1)
    with pytest.raises(PromptError, match="none of 1 prompts can be searched; prompt long: "):
        found(long)


def test_an_attention_that_cannot_be_differentiated_twice_is_refused(plain: Family):
    with pytest.raises(ModelError, match=r"optimise.attention=sdpa; .* kind: head"):
        trainee_of(plain, "gradient", replace(OPEN, attention="sdpa"))
    trainee_of(plain, "head", replace(OPEN, attention="sdpa"))


def test_frozen_parts_stay_and_too_many_are_refused(plain: Family):
    trainee, *_ = trainee_of(plain, "head", Optimise(frozen_layers=1))
    trained = {n for n, p in trainee.model.named_parameters() if p.requires_grad}
    assert not any("embed_tokens" in n or "layers.0." in n for n in trained)
    assert any("layers.1." in n for n in trained)
    with pytest.raises(ModelError, match=r"frozen_layers is 3; .* has 2"):
        trainee_of(plain, "head", Optimise(frozen_layers=3))


def test_a_gradient_guide_that_starts_as_a_head_is_no_head(plain: Family, tmp_path: Path):
    head = head_on(plain, "judge", tmp_path / "head")
    made = open_trainee(
        "gradient", str(head), plain.tokenizer("judge"), OPEN, revision=None, seed=0
    )
    made.model.save_pretrained(tmp_path / "gradient")
    assert kind_of(str(head), None) == "head"
    assert kind_of(str(tmp_path / "gradient"), None) == "gradient"


def test_a_gradient_guide_may_start_as_the_lm(plain: Family, tmp_path: Path):
    trainee, tokenizer, lm = trainee_of(plain, "gradient", role="lm")
    raw = plain.raw("lm").model.state_dict()
    mine = trainee.model.model.state_dict()
    assert all(torch.equal(raw[name], mine[name]) for name in raw)
    assert isinstance(trainee.guide(lm, 0.9, Runtime()), Reader)
    with pytest.raises(ModelError, match="cannot load it as a guide"):
        open_trainee("gradient", str(tmp_path / "none"), tokenizer, OPEN, revision=None, seed=0)


def test_counterfactuals_that_cannot_be_learned_from_are_named(plain: Family, grouped: Family):
    trainee, tokenizer, lm = trainee_of(plain, "head")
    encoder = guide_encoder("head", trainee, tokenizer, lm, 0.9)
    good = records(plain.engines())[0]
    place = good.places[0]

    def with_place(**changes: Any) -> Record:
        return replace(good, places=(replace(place, **changes),))

    single = Place(place.position, 0.5, place.tokens[:1], (0.0,), (1.0,))
    with pytest.raises(PromptError, match=r"p0: 1 token was tried at position \d+"):
        encoder.encode(replace(good, places=(single,)))
    with pytest.raises(PromptError, match=r"p0: a score at position \d+ is not finite"):
        encoder.encode(with_place(scores=(math.nan, *place.scores[1:])))
    with pytest.raises(ContextError, match=r"p0: .* whose context is 5"):
        replace(encoder, context=5).encode(good)
    other = load_language_model(str(grouped.lm), revision=None, device=CPU, dtype=torch.float32)
    with pytest.raises(VocabularyError):
        guide_encoder("head", trainee, tokenizer, other, 0.9)
    # Unlikely alternatives are left out, and positions of which nothing remains.
    assert encoder.encode(good, min_log_probability=1.0).positions == ()
    unlikely = with_place(log_probabilities=(-9.0, -1.0, -9.0, -1.0))
    assert len(encoder.encode(unlikely, min_log_probability=-2.0).positions[0].tokens) == 3
    # So is a position whose own token the guide does not know: gains would be over another.
    ids = encoder.vocabulary.ids.clone()
    ids[place.tokens[1]] = -1
    partial = replace(encoder, vocabulary=replace(encoder.vocabulary, ids=ids))
    assert len(partial._scored_position(good, place, 0, -math.inf).tokens) == len(place.tokens) - 1
    ids[place.tokens[0]] = -1
    assert partial._scored_position(good, place, 0, -math.inf).tokens == ()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"clip": 0.0}, r"optimise\.clip must be above 0, got 0"),
        ({"learning_rate": -1e-3}, r"optimise\.learning_rate must be above 0"),
        ({"weight_decay": -0.1}, r"optimise\.weight_decay must be at least 0"),
    ],
)
def test_steps_that_would_learn_nothing_are_refused(wrong: dict[str, float], told: str):
    with pytest.raises(ValueError, match=told):
        Optimise(**wrong)  # type: ignore[arg-type]


def test_a_gradient_turns_before_its_size_is_taught():
    target = Target(within=0.5, across=2.0, score=1.0, direction_steps=3)
    assert target.at(4) is target
    first = target.at(3)
    assert (first.within, first.across, first.scale, first.mirror, first.score) == (1, 0, 0, 0, 0)
    assert first.temperature == target.temperature
    with pytest.raises(ValueError, match=r"target\.direction_steps must be at least 0"):
        Target(direction_steps=-1)
