"""Prompts with tools in a dry run, and in the engines: who is told of them."""

from __future__ import annotations

import json

import pytest
import torch

from nabla_core.engines.loading import build_engines, load_engines, reader_for
from nabla_core.errors import ModelError, RenderError
from nabla_core.guide_training.examples import GuideEncoder, Record
from nabla_core.judge_training.examples import JudgeEncoder
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.models.loading import load_language_model, load_reward_model
from nabla_core.requests import Render
from pipeline.inputs.prompts import Prompts, read
from pipeline.preview.models import inspect
from pipeline.preview.prompts import render
from tests.core.chat_templates import PLAIN
from tests.core.engines.test_text import ask
from tests.core.tool_models import ADD, judge_folder, lm_folder, prompts_file

CPU = {"revision": None, "device": torch.device("cpu"), "dtype": torch.float32}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """An LM and a judge that take tools, and one of each that ignores them."""
    root = tmp_path_factory.mktemp("models")
    return {
        "lm": lm_folder(root / "lm"),
        "deaf lm": lm_folder(root / "deaf-lm", PLAIN),
        "judge": judge_folder(root / "judge"),
        "deaf judge": judge_folder(root / "deaf-judge", PLAIN),
        "root": root,
    }


@pytest.fixture(scope="module")
def prompts(models):
    path = prompts_file(models["root"] / "p.jsonl")
    return [item.prompt for item in read(Prompts(path=str(path)))]


def previewed(models, prompts, lm="lm", **reward):
    settings = Reward(**{"judge": str(models["judge"]), **reward})
    found = inspect(LM(str(models[lm])), settings)
    assert found is not None
    return render(prompts, found, 8, tools=settings.tools)


def test_the_first_prompt_is_shown_with_its_tools_to_every_model(models, prompts):
    shown = previewed(models, prompts[1:])
    assert shown.lm.startswith("<|im_start|>system\n" + json.dumps(ADD))
    assert json.dumps(ADD) in shown.judge


def test_a_model_that_ignores_tools_is_refused_by_name_before_a_run(models, prompts):
    told = (
        "cannot render prompt 'tools': RenderError: .* leaves out the tools of the prompt: take a"
    )
    with pytest.raises(ModelError, match=f"deaf-lm {told}"):
        previewed(models, prompts, lm="deaf lm")
    for role in ("judge", "guide"):
        with pytest.raises(ModelError, match=f"deaf-judge {told}"):
            previewed(models, prompts, **{role: str(models["deaf judge"])})


def test_a_judge_may_be_told_that_it_reads_no_tools(models, prompts):
    """`reward.tools=hidden`: whatever its template could do. The LM reads them all the same."""
    for judge in ("judge", "deaf judge"):
        shown = previewed(models, prompts[1:2], judge=str(models[judge]), tools="hidden")
        assert json.dumps(ADD) in shown.lm
        user, assistant = "<|im_start|>user\n1+1?<|im_end|>\n", "<|im_start|>assistant\n"
        assert shown.judge == f"{user}{assistant}⟦response⟧<|im_end|>\n"
    with pytest.raises(ModelError, match="deaf-lm cannot render"):
        previewed(models, prompts, lm="deaf lm", tools="hidden")
    # Calls of earlier turns are part of the conversation.
    with pytest.raises(ModelError, match="leaves out the tool calls of turn 2"):
        previewed(models, prompts, judge=str(models["deaf judge"]), tools="hidden")


def test_engines_tell_whom_the_setting_names(models, prompts):
    def engines(lm="lm", **reward):
        settings = Reward(**{"judge": str(models["judge"]), **reward})
        return load_engines(LM(str(models[lm])), settings, Runtime(device="cpu"))

    shown, hidden = engines(), engines(tools="hidden")
    whole, bare = (ask(each, Render(prompts[1])) for each in (shown, hidden))
    assert whole.lm == bare.lm
    assert bare.judge == ask(shown, Render(prompts[1].without_tools())).judge
    assert len(whole.judge[0]) > len(bare.judge[0])
    for each in (shown, hidden, engines(judge=str(models["deaf judge"]), tools="hidden")):
        each.check_tools()
    deaf = engines(judge=str(models["deaf judge"]))
    with pytest.raises(ModelError, match="deaf-judge: its chat template leaves out the tools of"):
        deaf.check_tools()
    with pytest.raises(RenderError, match=r"prompt tools: .*deaf-judge leaves out the tools of"):
        ask(deaf, Render(prompts[1]))
    with pytest.raises(ModelError, match="deaf-lm: its chat template leaves out the tools of"):
        engines("deaf lm", tools="hidden").check_tools()


def test_a_judge_is_trained_on_what_engines_show_it(models, prompts):
    """With tools or without, as `reward.tools` says."""
    lm = load_language_model(str(models["lm"]), **CPU)
    judge = load_reward_model(str(models["judge"]), **CPU)
    reader = reader_for(judge, lm, 0.99)
    tokens = (*lm.tokenizer.encode("two"), min(lm.stop))
    for tools in ("shown", "hidden"):
        context = ask(build_engines(lm, reader, reader, tools=tools), Render(prompts[1]))
        example = JudgeEncoder(reader, tools).encode(prompts[1], tokens, True)
        guide = GuideEncoder(
            tokenizer=judge.tokenizer, vocabulary=reader.vocabulary, stop=lm.stop, context=1024,
            kind="gradient", tools=tools,
        ).encode(Record("r", prompts[1], tokens, 1.0, ()))  # fmt: skip
        for ids in (example.ids, guide.ids):
            assert ids[: len(context.judge[0])] == context.judge[0]
