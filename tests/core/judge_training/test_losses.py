"""Labels at positions, encoded as engines read responses, and the loss on them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from transformers import AutoModelForSequenceClassification

from nabla_core import Prompt, drive
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import reader_for
from nabla_core.engines.score import ScoreEngine
from nabla_core.engines.text import TextEngine
from nabla_core.errors import ContextError
from nabla_core.judge_training.examples import JudgeEncoder, StepLabel, batch_of
from nabla_core.judge_training.losses import position_loss
from nabla_core.models.loading import load_language_model, load_reward_model
from nabla_core.requests import Render, Score, ask
from nabla_core.types import Cost

PROMPT = Prompt.of("1+2*3", id="p")
OPTIONS = {"revision": None, "device": torch.device("cpu"), "dtype": torch.float32}


@dataclass
class Rewarded:
    reward: float
    cost: Cost = field(default_factory=Cost)


@pytest.fixture(scope="module")
def encoder(family):
    lm = load_language_model(str(family.lm), **OPTIONS)
    return lm, JudgeEncoder(reader_for(load_reward_model(str(family.judge), **OPTIONS), lm, 0.9))


def response(lm):
    ids = lm.tokenizer.encode("3;9", add_special_tokens=False)
    return (*ids, min(lm.stop))


def test_the_last_position_of_an_example_is_where_engines_read_the_reward(family, encoder):
    lm, encode = encoder
    tokens = response(lm)
    model = AutoModelForSequenceClassification.from_pretrained(family.judge).eval()
    example = encode.encode(PROMPT, tokens, True, [StepLabel(0, True), StepLabel(2, False)])
    assert example.labels == (1.0, 0.0, 1.0)
    assert example.weights == (0.25, 0.25, 0.5)
    assert example.positions == tuple(sorted(example.positions))

    def flow():
        context = yield from ask(Render(PROMPT))
        judged = yield from ask(Score(context, tokens))
        return Rewarded(judged.reward)

    reader = encode.reader
    engines = Engines(
        TextEngine(lm, reader.rm, reader.rm), ScoreEngine(reader, 4, 1 << 16, return_cache=False)
    )
    (engine,) = drive([flow()], engines)
    hidden = model.base_model(input_ids=torch.tensor([example.ids])).last_hidden_state[0]
    rewards = model.score(hidden).squeeze(-1)[list(example.positions)]
    assert rewards[-1].item() == pytest.approx(engine.reward, abs=1e-5)

    # The loss of a padded batch is the weighted mean by hand.
    short = encode.encode(Prompt.of("1+2", id="q"), tokens[-2:], False)
    batch = batch_of([example, short], reader.rm.pad or 0)
    loss = position_loss(model, model.score, batch)
    labels, weights = torch.tensor(example.labels), torch.tensor(example.weights)
    first = (bce(rewards, labels, reduction="none") * weights).sum()
    other = model.base_model(input_ids=torch.tensor([short.ids])).last_hidden_state[0]
    second = bce(model.score(other)[short.positions[-1], 0], torch.tensor(0.0))
    assert loss.item() == pytest.approx(((first + second) / 2).item(), abs=1e-5)
    loss.backward()
    assert model.score.weight.grad.abs().sum() > 0


def test_without_steps_the_last_position_has_all_of_the_weight(encoder):
    lm, encode = encoder
    example = encode.encode(PROMPT, response(lm), False)
    assert (len(example.positions), example.labels, example.weights) == (1, (0.0,), (1.0,))
    with pytest.raises(ContextError, match="tokens to the judge, whose context is"):
        encode.encode(Prompt.of("1+2" * 300, id="p"), response(lm), True)
