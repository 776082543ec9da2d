"""From names of models to engines that serve requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import torch

from nabla_core.embedded.weights import Role, model_location
from nabla_core.engines.base import Engines
from nabla_core.engines.choices import ChoicesEngine
from nabla_core.engines.nudge import NudgeEngine
from nabla_core.engines.propose import ProposeEngine
from nabla_core.engines.rollouts import RolloutEngine
from nabla_core.engines.score import ScoreEngine
from nabla_core.engines.sweeps import SweepEngine
from nabla_core.engines.text import TextEngine
from nabla_core.errors import ModelError
from nabla_core.guides.base import Guide
from nabla_core.guides.decoding import DecodingGuide
from nabla_core.guides.gradient import GradientGuide
from nabla_core.guides.head import KIND_KEY, HeadGuide
from nabla_core.guides.value_head import ValueHeadGuide, load_value_head
from nabla_core.model_config import LM, GuideKind, Reward, Runtime, ToolsFor
from nabla_core.models.dtype import best_dtype
from nabla_core.models.loading import (
    LanguageModel,
    RewardModel,
    load_language_model,
    load_reward_model,
    require_checkpointable,
)
from nabla_core.models.pretrained import load_config
from nabla_core.models.readers import Reader
from nabla_core.models.vocab import VocabularyMap, map_vocabulary
from nabla_core.text.fingerprint import fingerprint
from nabla_core.types import Identity

# Guides that predict advantages, and are no reward models.
AdvantageGuide = HeadGuide | ValueHeadGuide


def load_engines(
    lm: LM | str = "embedded",
    reward: Reward | None = None,
    runtime: Runtime | None = None,
) -> Engines:
    """Load the models named and build the engines of one process.

    Without `reward` the embedded judge and the embedded gradient guide are used. Whether a guide
    is a head is read from its config; the embedded head is "embedded-head". Raises ModelError
    (naming the folder or hub id) where a model cannot be used, and VocabularyError where a reward
    model knows too few of the LM's tokens.
    """
    lm = LM(lm) if isinstance(lm, str) else lm
    reward = reward or Reward(judge="embedded", guide="embedded")
    runtime = runtime or Runtime()
    device = device_of(runtime.device)
    dtype = torch_dtype(runtime, model_paths(lm, reward))
    language = load_language_model(
        model_location(lm.path, "lm"), revision=lm.revision, device=device, dtype=dtype
    )

    def reader(path: str, role: Role, revision: str | None) -> Reader:
        model = load_reward_model(
            model_location(path, role), revision=revision, device=device, dtype=dtype
        )
        return reader_for(model, language, reward.min_coverage)

    judge = reader(reward.judge, "judge", reward.judge_revision) if reward.judge else None
    if reward.guide is None or _judge_guides(reward):
        return build_engines(language, judge, judge, runtime, reward.tools)
    path = model_location(reward.guide, "guide")
    guide = load_guide(path, reward.guide_revision, language, reward.min_coverage, runtime)
    return build_engines(language, judge, guide, runtime, reward.tools)


def load_guide(
    path: str, revision: str | None, lm: LanguageModel, min_coverage: float, runtime: Runtime
) -> Reader | AdvantageGuide:
    """The guide in a folder or from the hub, of the kind that its config says, on the device and in
    the type of the LM. Raises ModelError, VocabularyError."""
    options: Any = {"revision": revision, "device": lm.device, "dtype": lm.table.dtype}
    match kind_of(path, revision):
        case "gradient":
            return reader_for(load_reward_model(path, **options), lm, min_coverage)
        case "head":
            # On disk a head is a causal LM, so it is loaded as one.
            head = load_language_model(path, **options)
            return head_guide_for(head, lm, min_coverage, runtime)
        case "value_head":
            return ValueHeadGuide(lm, *load_value_head(path, **options))


def model_paths(lm: LM, reward: Reward) -> list[str]:
    """The folders or hub ids of the models."""
    named: list[tuple[str | None, Role]] = [(reward.judge, "judge"), (reward.guide, "guide")]
    readers = [model_location(path, role) for path, role in named if path is not None]
    return [model_location(lm.path, "lm"), *readers]


def torch_dtype(runtime: Runtime, paths: Sequence[str]) -> torch.dtype:
    """The type of weights and activations; `auto` is decided for this machine and these models."""
    name = runtime.dtype
    if name == "auto":
        name = best_dtype(str(device_of(runtime.device)), paths)
    return torch.float32 if name == "float32" else torch.bfloat16


def _judge_guides(reward: Reward) -> bool:
    """Whether judge and guide are named alike, so that one model is loaded for both roles."""
    # "embedded" names one model as judge and another as guide.
    same = (reward.guide, reward.guide_revision) == (reward.judge, reward.judge_revision)
    return same and reward.judge != "embedded"


def build_engines(
    lm: LanguageModel,
    judge: Reader | None,
    guide: Reader | AdvantageGuide | None,
    runtime: Runtime | None = None,
    tools: ToolsFor = "shown",
) -> Engines:
    """Engines around loaded models. Guide and judge may be one reader. Without a judge nothing is
    scored and nothing searched. `tools`: see `Reward`. Raises ModelError for a gradient guide
    without a judge."""
    runtime = runtime or Runtime()
    if judge is None:
        return _unjudged_engines(lm, guide, runtime, tools)
    assert guide is not None, "a judge is its own guide"
    rows, tokens = runtime.max_batch, runtime.max_batch_tokens
    built: Guide
    decodes: DecodingGuide | None = None
    model: LanguageModel | RewardModel
    if isinstance(guide, ValueHeadGuide):
        # It reads no text of its own: prompts are rendered for LM and judge alone.
        built, decodes, model, identity = guide, guide, judge.rm, guide.identity
    elif isinstance(guide, HeadGuide):
        built, decodes, model, identity = guide, guide, guide.head, guide.head.identity
    else:
        # A reward that comes with a gradient is of a batch.
        judges = guide is judge and not runtime.score_alone
        built = as_guide(guide, lm, runtime, judges=judges)
        model, identity = guide.rm, guide.rm.identity
        if runtime.gradient_checkpointing:
            for swept_model in (lm, guide.rm):
                require_checkpointable(swept_model)
    text = TextEngine(lm, judge.rm, model, runtime.template_date, tools)
    return Engines(
        text,
        ScoreEngine(judge, rows, tokens, return_cache=runtime.reuse, alone=runtime.score_alone),
        ProposeEngine(built, rows, tokens),
        SweepEngine(built, rows, tokens),
        NudgeEngine(built, rows, tokens),
        ChoicesEngine(lm, judge.vocabulary, rows, tokens),
        RolloutEngine(lm, rows, tokens, return_cache=runtime.reuse, guide=decodes),
        identities=_identities(lm) | {"guide": identity, "judge": judge.rm.identity},
        check=built.check,
        check_sampling=built.check_sampling,
        check_system_turns=text.check_system_turns,
        check_tools=text.check_tools,
    )


def _unjudged_engines(
    lm: LanguageModel, guide: Reader | AdvantageGuide | None, runtime: Runtime, tools: ToolsFor
) -> Engines:
    """Engines of an LM, alone or with a guide that decodes. Raises ModelError for another guide."""
    if isinstance(guide, Reader):
        raise ModelError(
            f"{guide.rm.source} guides by its gradient, in a search: reward.judge=null leaves "
            "nothing that decides"
        )
    rows, tokens = runtime.max_batch, runtime.max_batch_tokens
    identities = _identities(lm)
    head: LanguageModel | None = None
    if isinstance(guide, HeadGuide):
        head = guide.head
        identities["guide"] = head.identity
    elif guide is not None:
        identities["guide"] = guide.identity
    text = TextEngine(lm, None, head, runtime.template_date, tools)
    return Engines(
        text,
        RolloutEngine(lm, rows, tokens, return_cache=runtime.reuse, guide=guide),
        identities=identities,
        check_sampling=guide.check_sampling if guide else lambda sampling: None,
        check_system_turns=text.check_system_turns,
        check_tools=text.check_tools,
    )


def _identities(lm: LanguageModel) -> dict[str, Identity]:
    # By content: equal tokenizers of different models give equal ids.
    return {
        "lm": lm.identity,
        "tokenizer": Identity(lm.identity.name, fingerprint(lm.tokenizer)),
    }


def as_guide(
    guide: Reader | AdvantageGuide, lm: LanguageModel, runtime: Runtime, *, judges: bool = False
) -> Guide:
    """What sweeps use; of a reward model its gradient. `judges`: it is the judge too."""
    if not isinstance(guide, Reader):
        return guide
    return GradientGuide(
        lm,
        guide,
        judges=judges,
        return_cache=runtime.reuse,
        checkpoint=runtime.gradient_checkpointing,
    )


def kind_of(path: str, revision: str | None) -> GuideKind:
    """Which kind of guide a folder or hub id holds. Raises ModelError on an unknown kind."""
    kind: Any = getattr(load_config(path, revision), KIND_KEY, "gradient")
    for known in get_args(GuideKind):
        if kind == known:
            return cast(GuideKind, known)
    raise ModelError(
        f"{path}: {KIND_KEY} in its config is {kind!r}, not {' or '.join(get_args(GuideKind))}"
    )


def head_guide_for(
    model: LanguageModel, lm: LanguageModel, min_coverage: float, runtime: Runtime
) -> HeadGuide:
    """A head as this LM's guide. Raises VocabularyError where it knows too few tokens."""
    return HeadGuide(lm, model, _map(model, lm, min_coverage), return_cache=runtime.reuse)


def reader_for(model: RewardModel, lm: LanguageModel, min_coverage: float) -> Reader:
    """A reward model that reads this LM's responses. Raises VocabularyError."""
    return Reader(model, _map(model, lm, min_coverage), lm.stop)


def _map(
    model: LanguageModel | RewardModel, lm: LanguageModel, min_coverage: float
) -> VocabularyMap:
    """The LM's tokens in another model's vocabulary. Raises VocabularyError."""
    return map_vocabulary(
        lm.tokenizer,
        model.tokenizer,
        size=lm.head.out_features,
        rm_size=model.table.size(0),
        names=(lm.source, model.source),
        min_coverage=min_coverage,
    )


def device_of(name: str) -> torch.device:
    """`auto` is the first GPU, else the CPU. Raises ModelError if the device cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # torch.device accepts every known name; only an allocation fails where there is no device.
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"runtime.device: {name} cannot be used here: {error}") from error
    return torch.device(name)
