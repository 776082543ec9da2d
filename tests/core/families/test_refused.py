"""Families that cannot be served are refused when they are loaded, by a sentence that says why."""

from __future__ import annotations

import pytest

from nabla_core.errors import ModelError
from tests.core.families.catalogue import REFUSED_LANGUAGE_MODELS, REFUSED_REWARD_MODELS
from tests.core.families.tiny_models import as_lm, as_reward_model, causal_lm, classifier

# Some of these models compile a part of themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


@pytest.mark.parametrize("kind", REFUSED_LANGUAGE_MODELS)
def test_language_models_that_cannot_be_served_are_refused(kind: str):
    changes, sentence = REFUSED_LANGUAGE_MODELS[kind]
    model = causal_lm(kind, **changes)
    with pytest.raises(ModelError, match=f"^{kind}: .*{sentence}"):
        as_lm(model)


@pytest.mark.parametrize("kind", REFUSED_REWARD_MODELS)
def test_reward_models_that_cannot_be_served_are_refused(kind: str):
    changes, sentence = REFUSED_REWARD_MODELS[kind]
    model = classifier(kind, **changes)
    with pytest.raises(ModelError, match=f"^{kind}: .*{sentence}"):
        as_reward_model(model)
