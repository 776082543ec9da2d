"""Guided rollouts against decoding from scratch, at every batch size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nabla_core import Ranked, Reward, Runtime, drive, load_engines, nabla
from nabla_core.config import Sampling
from nabla_core.draws import DrawKey, uniform
from nabla_core.embedded import task
from nabla_core.embedded.weights import model_location
from nabla_core.engines.base import Engines
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.errors import ContextError, EncodingError, ModelError, NonFiniteError
from nabla_core.guides.decoding import HistoryReader
from nabla_core.guides.head import HeadGuide
from nabla_core.models.loading import LanguageModel
from nabla_core.models.vocab import VocabularyMap
from nabla_core.requests import Context, Render, Reply, Rollout
from nabla_core.text.thinking import ThinkBlock
from tests.core.engines.rollout_requests import GREEDY, answers, language_model
from tests.core.guides.test_head import engines_with, head_of, head_on
from tests.core.reference import serve
from tests.core.tiny import Family, greedy_search, prompts
from tests.oracle.guided import GuidedModels, guided_response
from tests.oracle.literal import sample_token

LIMIT = 10
SAMPLINGS = [
    Sampling(0, beta=1.0),
    Sampling(0, beta=0.2),
    Sampling(1.0, beta=0.5),
    Sampling(0.8, 0.9, 20, beta=0.3),
    Sampling(0),
    Sampling(1.0),
]


@pytest.fixture(scope="module")
def guided(family: Family, tmp_path_factory: pytest.TempPathFactory) -> tuple[Engines, Any]:
    """Engines with a head, and the head as transformers loads it. That of `grouped` has another
    vocabulary than the LM, and a chat template."""
    folder = head_on(family, "judge", tmp_path_factory.mktemp("head"))
    return engines_with(family, folder), load(folder)


def load(folder: Path) -> Any:
    return Family(folder, folder, folder).raw("lm")


def reference(family: Family, guide: HeadGuide, head: Any, context: Context) -> GuidedModels:
    return GuidedModels(
        lm=family.raw("lm"),
        head=head,
        vocabulary=guide.lm.vocabulary,
        head_ids=guide.vocabulary.ids.tolist(),
        before=lambda tokens: list(context.guide[0]),
        stop=1,
    )


def contexts_of(engines: Engines, count: int = 6) -> list[Context]:
    found: list[Context] = serve(engines, [Render(p) for p in prompts(count)])
    return found


def request(
    context: Context, sampling: Sampling, prefix: Sequence[int] = (), **more: Any
) -> Rollout:
    key = DrawKey(0, context.prompt_id, 0, "rollout 0")
    return Rollout(context, tuple(prefix), LIMIT, sampling, key, **more)


def expected(family: Family, guide: HeadGuide, head: Any, asked: Rollout) -> tuple[int, ...]:
    if asked.sampling.beta is None:  # a head of zeros
        asked = replace(asked, sampling=replace(asked.sampling, beta=1.0))
        head = load_zeros(head)
    return guided_response(
        reference(family, guide, head, asked.context),
        asked.context.lm,
        asked.prefix,
        sampling=asked.sampling,
        key=asked.key,
        limit=asked.max_tokens,
    )


def load_zeros(head: Any) -> Any:
    return lambda input_ids: type("Out", (), {"logits": torch.zeros_like(head(input_ids).logits)})


@pytest.mark.parametrize("capacity", [1, 8])
def test_guided_tokens_are_those_drawn_from_the_law_from_scratch(
    family: Family, guided: tuple[Engines, Any], capacity: int
):
    """Greedy and sampled, several betas and none in one batch."""
    engines, head = guided
    guide = head_of(engines)
    engine = RolloutEngine(guide.lm, capacity, 1 << 20, guide=guide)
    asked = [
        request(context, sampling)
        for context, sampling in zip(contexts_of(engines), SAMPLINGS, strict=True)
    ]
    if capacity > 1:
        asked += [replace(a, sampling=s) for a, s in zip(asked, reversed(SAMPLINGS), strict=True)]
    found = answers(engine, asked)
    assert [r.value.tokens for r in found] == [expected(family, guide, head, a) for a in asked]
    # The guide changes what is drawn.
    alone = answers(engine, [replace(a, sampling=replace(a.sampling, beta=None)) for a in asked])
    changed = [f.value.tokens != a.value.tokens for f, a in zip(found, alone, strict=True)]
    assert not any(c for c, a in zip(changed, asked, strict=True) if a.sampling.beta is None)
    assert sum(changed) >= 3


def test_a_guided_row_pays_for_the_head_and_another_one_does_not(plain: Family, tmp_path: Path):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide = head_of(engines)
    contexts = contexts_of(engines, 2)
    both = [request(contexts[0], Sampling(0, beta=0.5)), request(contexts[1], GREEDY)]
    engine = RolloutEngine(guide.lm, 8, 1 << 20, guide=guide)
    led, plain_row = answers(engine, both)
    (alone,) = answers(RolloutEngine(guide.lm, 8, 1 << 20), both[1:])
    assert replace(plain_row.cost, seconds=0) == replace(alone.cost, seconds=0)
    new, before = len(led.value.tokens), len(contexts[0].guide[0])
    assert (led.cost.rollouts, led.cost.generated_tokens, led.cost.paper_calls) == (1, new, new)
    assert (led.cost.lm_forward, led.cost.rm_forward) == (1, 1)
    # LM and head each read the prompt but for its last token, then one token a step.
    assert led.cost.token_passes == 2 * (before - 1 + new)
    shapes = [guide.lm.shape, guide.head.shape]
    reads = [s.forward(before - 1 + new) + s.head(new) for s in shapes]
    assert led.cost.flops == pytest.approx(sum(reads))


def test_continuing_from_a_cache_reads_nothing_again(family: Family, guided: tuple[Engines, Any]):
    engines, head = guided
    guide = head_of(engines)
    engine = RolloutEngine(guide.lm, 8, 1 << 20, guide=guide)
    sampling = Sampling(0, beta=0.5)
    contexts = contexts_of(engines)
    first = answers(engine, [request(c, sampling, return_cache=True) for c in contexts])
    asked = []
    for context, reply in zip(contexts, first, strict=True):
        tokens = reply.value.tokens
        prefix = (*tokens[: len(tokens) // 2], 7)
        asked.append(request(context, sampling, prefix, reuse=reply.value.cache, return_cache=True))
    found = answers(engine, asked)
    assert [r.value.tokens for r in found] == [expected(family, guide, head, a) for a in asked]
    assert all(r.cost.lm_forward == r.cost.rm_forward == 0 for r in found)
    assert all(r.cost.token_passes == 2 * r.cost.generated_tokens for r in found)
    # A response that no guide has read gives no cache of it: the head reads the prefix now.
    alone = answers(engine, [request(c, GREEDY, return_cache=True) for c in contexts])
    mixed = [
        replace(a, reuse=r.value.cache, prefix=(7,)) for a, r in zip(asked, alone, strict=True)
    ]
    found = answers(engine, mixed)
    assert [r.value.tokens for r in found] == [expected(family, guide, head, a) for a in mixed]
    assert all((r.cost.lm_forward, r.cost.rm_forward) == (0, 1) for r in found)


def test_rows_join_and_leave_a_guided_batch(plain: Family, tmp_path: Path):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide, head = head_of(engines), load(tmp_path)
    contexts = contexts_of(engines, 11)
    asked = [
        replace(request(c, SAMPLINGS[n % 6]), max_tokens=1 + n % 7) for n, c in enumerate(contexts)
    ]
    engine = RolloutEngine(guide.lm, 4, 1 << 20, guide=guide)
    found = answers(engine, asked)
    assert [r.value.tokens for r in found] == [expected(plain, guide, head, a) for a in asked]


def test_advantages_that_are_not_finite_fail_their_prompt_alone(
    plain: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide, head = head_of(engines), load(tmp_path)
    asked = [request(c, Sampling(0, beta=0.5)) for c in contexts_of(engines, 4)]
    predicted = guide.next_advantages

    def broken(hidden: Tensor) -> Tensor:
        rows = predicted(hidden)
        if len(rows) == 4:
            rows[2, 5] = float("nan")
        return rows

    monkeypatch.setattr(guide, "next_advantages", broken)
    found = answers(RolloutEngine(guide.lm, 8, 1 << 20, guide=guide), asked)
    assert isinstance(found[2], NonFiniteError)
    assert f"prompt {asked[2].key.prompt_id}: the guide's advantages" in str(found[2])
    for n in (0, 1, 3):
        assert found[n].value.tokens == expected(plain, guide, head, asked[n])


def test_a_batch_that_fails_is_run_again_row_by_row(
    plain: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide, head = head_of(engines), load(tmp_path)
    asked = [request(c, SAMPLINGS[n]) for n, c in enumerate(contexts_of(engines, 6))]
    engine = RolloutEngine(guide.lm, 8, 1 << 20, guide=guide)
    draw = engine._draw

    def fragile(logits: Any) -> list[int]:
        if any(r.prompt == asked[1].context.lm and len(r.tokens) == 2 for r in engine._rows):
            raise RuntimeError("broken")
        return draw(logits)

    monkeypatch.setattr(engine, "_draw", fragile)
    found = answers(engine, asked)
    assert str(found[1]) == "broken"
    for n in (0, 2, 3, 4, 5):
        assert found[n].value.tokens == expected(plain, guide, head, asked[n])


def test_a_token_that_the_guide_does_not_know_ends_its_prompt_alone(plain: Family, tmp_path: Path):
    """It has advantage 0, so it may be drawn; then the guide can read no further."""
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide, head = head_of(engines), load(tmp_path)
    asked = [request(c, Sampling(0, beta=4.0)) for c in contexts_of(engines, 6)]
    before = [r.value.tokens for r in answers(engine_of(guide), asked)]
    # The most frequent of those that another one follows.
    ((token, _),) = Counter(t for tokens in before for t in set(tokens[:-1])).most_common(1)
    ids = guide.vocabulary.ids.clone()
    ids[token] = -1
    blind = HeadGuide(guide.lm, guide.head, VocabularyMap(ids, 0.9), return_cache=True)
    found = answers(engine_of(blind), asked)
    failed = 0
    for asking, result in zip(asked, found, strict=True):
        if isinstance(result, EncodingError):
            failed += 1
            assert str(result).startswith(f"prompt {asking.key.prompt_id}: token {token} at")
        else:
            assert result.value.tokens == expected(plain, blind, head, asking)
    assert 0 < failed < 6
    # So does one in a prefix, unless nothing is left to draw.
    (refused,) = answers(engine_of(blind), [request(asked[0].context, asked[0].sampling, (token,))])
    assert isinstance(refused, EncodingError)
    ended = replace(asked[0], prefix=(token,), max_tokens=1)
    assert answers(engine_of(blind), [ended])[0].value.tokens == (token,)


def engine_of(guide: Any) -> RolloutEngine:
    return RolloutEngine(guide.lm, 8, 1 << 20, guide=guide)


def test_a_response_that_reasons_is_read_as_the_template_frames_it(plain: Family, tmp_path: Path):
    """What is in front of a response changes with its tags; the head then reads it again."""
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide = head_of(engines)
    ids = guide.lm.tokenizer.encode("+;-;")
    think = ThinkBlock("+;", "-;", tuple(ids), tuple(ids[:2]), drops=False)
    contexts = [replace(c, guide=((*c.guide[0], *ids), ())) for c in contexts_of(engines, 6)]
    reading = HeadGuide(guide.lm, guide.head, guide.vocabulary, return_cache=True)
    reading.reader = HistoryReader(guide.head, guide.vocabulary, think)
    plus, semicolon, minus = ids[0], ids[1], ids[2]
    prefixes = [(plus,), (plus, semicolon), (9, minus), (9, minus, semicolon), (9,), ()]
    asked = [
        request(c, Sampling(0, beta=0.5), prefix)
        for c, prefix in zip(contexts, prefixes, strict=True)
    ]
    # Every digit is changed into the second half of a tag.
    draw = RolloutEngine._draw
    engine = engine_of(reading)

    def tagging(logits: Any) -> list[int]:
        drawn = draw(engine, logits)
        return [
            semicolon if len(row.tokens) in (1, 2) else token
            for row, token in zip(engine._rows, drawn, strict=True)
        ]

    engine._draw = tagging  # type: ignore[method-assign]
    reads: list[list[int]] = []
    advantages = reading.next_advantages

    def recorded(hidden: Tensor) -> Tensor:
        reads.extend(list(row.guide_history) for row in engine._guided._rows)
        return advantages(hidden)

    reading.next_advantages = recorded  # type: ignore[method-assign]
    found = answers(engine, asked)
    seen = set(map(tuple, reads))
    wanted = set()
    for asking, result in zip(asked, found, strict=True):
        tokens = result.value.tokens
        for n in range(len(asking.prefix), len(tokens)):
            body = guide.vocabulary.translate(tokens[:n])
            text = guide.head.tokenizer.decode(body)
            wanted.add((*think.before(asking.context.guide[0], text), *body))
    assert seen == wanted
    # Both tags occur, and a history that one changed is read once more.
    assert [r.cost.rm_forward for r in found] == [2, 1, 2, 1, 1, 1]


@dataclass
class Layer:
    """A guide without a model of its own: a layer on the LM's last hidden state."""

    lm: LanguageModel
    weight: Tensor
    reader = None

    def next_advantages(self, hidden: Tensor) -> Tensor:
        return hidden @ self.weight

    def next_flops(self) -> float:
        return 2.0 * self.weight.numel()


def test_a_guide_on_the_lms_own_hidden_state_needs_no_second_pass(plain: Family):
    lm, raw = language_model(plain), plain.raw("lm")
    torch.manual_seed(0)
    layer = Layer(lm, torch.randn(lm.shape.hidden, lm.head.out_features))
    engines = plain.engines()
    asked = [request(c, s) for c, s in zip(contexts_of(engines), SAMPLINGS, strict=True)]
    found = answers(engine_of(layer), asked)
    alone = answers(RolloutEngine(lm, 8, 1 << 20), asked[4:])
    for asking, reply in zip(asked, found, strict=True):
        y: list[int] = []
        while len(y) < LIMIT and y[-1:] != [1]:
            with torch.no_grad():
                out = raw(torch.tensor([[*asking.context.lm, *y]]), output_hidden_states=True)
            law = out.logits[0, -1]
            if asking.sampling.beta is not None:
                law = law + out.hidden_states[-1][0, -1] @ layer.weight / asking.sampling.beta
            y.append(sample_token(law, asking.sampling, uniform(asking.key, len(y))))
        assert reply.value.tokens == tuple(y)
        assert reply.cost.rm_forward == 0
    assert found[0].cost.token_passes == len(asked[0].context.lm) - 1 + len(found[0].value.tokens)
    assert [replace(r.cost, seconds=0, lm_forward=0) for r in found[4:]] == [
        replace(r.cost, seconds=0, lm_forward=0) for r in alone
    ]


def test_the_heads_context_ends_a_response_too(plain: Family, tmp_path: Path):
    engines = engines_with(plain, head_on(plain, "judge", tmp_path))
    guide = head_of(engines)
    context = contexts_of(engines, 1)[0]
    small = replace(guide.head, context=len(context.guide[0]) + 3)
    short = HeadGuide(guide.lm, small, guide.vocabulary, return_cache=True)
    asked = [request(context, Sampling(0, beta=9.0)), request(context, GREEDY)]
    (led, free) = answers(engine_of(short), asked)
    assert len(free.value.tokens) > 3
    assert (len(led.value.tokens), led.value.finish) == (3, "length")
    none = HeadGuide(
        guide.lm, replace(small, context=len(context.guide[0])), guide.vocabulary, return_cache=True
    )
    (refused, free) = answers(engine_of(none), asked)
    assert isinstance(refused, ContextError)
    assert len(free.value.tokens) > 3


TAILS = Sampling(0.7, beta=0.5)


def guided_rollout(
    models: GuidedModels, context: Context, prompt_id: str, prefix: Sequence[int], number: int
) -> tuple[int, ...]:
    """Rollout number `number` of a search with seed 4."""
    key = DrawKey(4, prompt_id, 0, f"rollout {number}")
    return guided_response(models, context.lm, prefix, sampling=TAILS, key=key, limit=8)


@pytest.mark.parametrize("reuse", [True, False])
def test_base_and_tails_of_a_search_are_guided(
    family: Family, guided: tuple[Engines, Any], reuse: bool, tmp_path: Path
):
    engines, head = guided
    guide = head_of(engines)
    if not reuse:
        engines = engines_with(family, head_on(family, "judge", tmp_path), reuse=False)
    config = greedy_search(
        proposals="ranked",
        ranked=Ranked(beta=0.5, min_score=-3.0),
        rollout=TAILS,
        max_rollouts=3,
    )
    asked = prompts(5)
    contexts = dict(zip((p.id for p in asked), contexts_of(engines, 5), strict=True))
    flows = (nabla(p, config, seed=4, max_tokens=8) for p in asked)
    revised = 0
    for trace in drive(flows, engines):
        context = contexts[trace.prompt_id]
        response = partial(
            guided_rollout, reference(family, guide, head, context), context, trace.prompt_id
        )
        y = response((), 0)
        assert trace.base_tokens == y
        for number, revision in enumerate(trace.revisions, 1):
            new = response((*y[: revision.position], revision.to_token), number)
            assert revision.tail_token_ids == new[revision.position :]
            y = new if revision.accepted else y
            revised += 1
        assert trace.tokens == y
    assert revised > 5


def test_without_a_guide_that_decodes_a_guided_rollout_is_refused(plain: Family):
    engines = plain.engines()
    (refused, fine) = answers(
        engines.serving(Rollout),  # type: ignore[arg-type]
        [request(c, s) for c, s in zip(contexts_of(engines, 2), SAMPLINGS[::4], strict=False)],
    )
    assert isinstance(refused, ModelError)
    assert isinstance(fine, Reply)


def test_a_gradient_guide_is_refused_by_its_name(plain: Family):
    engines = plain.engines()
    for check, asked in (
        (engines.check_sampling, Sampling(0, beta=0.5)),
        (engines.check, greedy_search(rollout=Sampling(0, beta=0.5))),
    ):
        with pytest.raises(ModelError, match=f"{plain.guide} is a reward model.*beta=0.5"):
            check(asked)  # type: ignore[operator]
    engines.check_sampling(Sampling(1.0))


def test_the_embedded_head_decodes_as_from_scratch():
    """The models that this package ships."""
    engines = load_engines("embedded", Reward(guide="embedded-head"), Runtime(max_batch=8))
    guide = head_of(engines)
    raw = [
        load(Path(model_location(*name)))
        for name in (("embedded", "lm"), ("embedded-head", "guide"))
    ]
    texts = task.prompts(8, seed=0, split="test")
    contexts = serve(engines, [Render(p) for p in texts])
    for sampling in (Sampling(0, beta=0.25), Sampling(1.0, beta=0.5)):
        asked = [replace(request(c, sampling), max_tokens=20) for c in contexts]
        found = answers(engine_of(guide), asked)
        for asking, reply in zip(asked, found, strict=True):
            models = GuidedModels(
                raw[0],
                raw[1],
                guide.lm.vocabulary,
                guide.vocabulary.ids.tolist(),
                lambda tokens, c=asking.context: list(c.guide[0]),  # type: ignore[misc]
                stop=next(iter(guide.lm.stop)),
            )
            assert reply.value.tokens == guided_response(
                models, asking.context.lm, (), sampling=sampling, key=asking.key, limit=20
            )
