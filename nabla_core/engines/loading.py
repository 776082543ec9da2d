"""From names of models to engines that are ready to serve."""

from __future__ import annotations

import torch

from nabla_core import config
from nabla_core.config import LM, Reward
from nabla_core.embedded.weights import Role, folder
from nabla_core.engines.base import Engines
from nabla_core.engines.guide import Reader
from nabla_core.engines.proposals import ProposeEngine
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.engines.sweeps import Guide, ScoreEngine, SweepEngine
from nabla_core.engines.text import TextEngine
from nabla_core.errors import ModelError
from nabla_core.models import (
    LanguageModel,
    RewardModel,
    checkpoint_layers,
    load_language_model,
    load_reward_model,
)
from nabla_core.vocab import map_vocabulary


def load_engines(
    lm: LM | str = "embedded",
    reward: Reward | None = None,
    engine: config.Engine | None = None,
) -> Engines:
    """Load the models named and build the engines of one process.

    Without `reward` the embedded pair is used: the plain reward model judges, the aligned
    one guides. Raises ModelError (naming the folder or hub id) where a model cannot be used,
    VocabularyError where a reward model knows too few of the LM's tokens.
    """
    lm = LM(lm) if isinstance(lm, str) else lm
    reward = reward or Reward(judge="embedded", guide="embedded")
    engine = engine or config.Engine()
    where = device_of(engine.device)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[engine.dtype]
    language = load_language_model(
        _path(lm.path, "lm"), revision=lm.revision, device=where, dtype=dtype
    )

    def reader(path: str, role: Role, revision: str | None) -> Reader:
        model = load_reward_model(_path(path, role), revision=revision, device=where, dtype=dtype)
        return read_with(model, language, reward.min_coverage)

    judge = reader(reward.judge, "judge", reward.judge_revision)
    guide = judge
    if reward.guide is not None and (reward.guide, reward.guide_revision) != (
        reward.judge if reward.judge != "embedded" else None,
        reward.judge_revision,
    ):
        guide = reader(reward.guide, "guide", reward.guide_revision)
    return build_engines(language, judge, guide, engine)


def build_engines(
    lm: LanguageModel, judge: Reader, guide: Reader, engine: config.Engine | None = None
) -> Engines:
    """Engines around loaded models. The guide may be the judge itself."""
    engine = engine or config.Engine()
    rows, tokens = engine.max_batch, engine.max_batch_tokens
    gradient = Guide(
        lm, guide, judges=guide is judge, keep=engine.reuse, checkpoint=engine.checkpoint
    )
    if engine.checkpoint:
        for model in (lm, guide.rm):
            checkpoint_layers(model)
    return Engines(
        TextEngine(lm, judge.rm, guide.rm),
        ScoreEngine(judge, rows, tokens, keep=engine.reuse),
        ProposeEngine(gradient, rows, tokens),
        SweepEngine(gradient, rows, tokens),
        RolloutEngine(lm, rows, tokens, keep=engine.reuse),
        identities={
            "lm": lm.identity,
            "judge": judge.rm.identity,
            "guide": guide.rm.identity,
        },
    )


def read_with(model: RewardModel, lm: LanguageModel, min_coverage: float) -> Reader:
    """A reward model as this LM's reader; checks that their vocabularies map."""
    vocabulary = map_vocabulary(
        lm.tokenizer,
        model.tokenizer,
        size=lm.head.out_features,
        names=(lm.identity.name, model.identity.name),
        least=min_coverage,
    )
    return Reader(model, vocabulary, lm.stop)


def device_of(name: str) -> torch.device:
    """`auto` is the first GPU, else the CPU. Raises ModelError for a device not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"engine.device: {name} cannot be used here: {error}") from error
    return torch.device(name)


def _path(path: str, role: Role) -> str:
    return str(folder(role)) if path == "embedded" else path
