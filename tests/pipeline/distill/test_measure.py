"""A student is measured by its greedy answers."""

from __future__ import annotations

import pytest
import torch

from nabla_core import drive, greedy, load_engines
from nabla_core.embedded import task
from nabla_core.embedded.weights import folder
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.distill.config import Selection
from pipeline.distill.measure import measure
from pipeline.errors import RunError
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts

CPU = torch.device("cpu")


def selection(**changes) -> Selection:
    prompts = Prompts(split="validation", limit=40, **changes.pop("prompts", {}))
    settings = {"prompts": prompts, "verify": Verify("embedded"), "max_tokens": 20}
    return Selection(**settings | changes)


def test_the_figures_are_those_of_greedy_decoding_with_and_without_a_judge():
    lm, judge = str(folder("lm")), (str(folder("judge")), None)
    alone = measure(lm, selection(), None, CPU)
    judged = measure(lm, selection(), judge, CPU)
    prompts = task.prompts(40, seed=0, split="validation")
    engines = load_engines(LM(lm), Reward(judge[0]), Runtime(device="cpu"))
    traces = list(drive((greedy(p, max_tokens=20) for p in prompts), engines))
    right = [task.grade(t.prompt_text, t.text).answer for t in traces]
    assert alone.accuracy == judged.accuracy == sum(right) / 40
    assert 0 < sum(right) < 40
    assert alone.reward is None
    assert judged.reward == pytest.approx(sum(t.reward for t in traces) / 40, abs=1e-3)
    assert (alone.stopped, alone.failed) == (1.0, 0)
    assert alone.tokens == sum(len(t.tokens) for t in traces) / 40
    cut = measure(lm, selection(max_tokens=5), None, CPU)
    assert (cut.stopped, cut.tokens, cut.accuracy) == (0.0, 5.0, 0.0)


def test_prompts_without_answers_have_no_accuracy_and_unreadable_ones_count_as_wrong(tmp_path):
    lm = str(folder("lm"))
    file = tmp_path / "prompts.jsonl"
    rows = [f'{{"id": "a", "prompt": "{task.prompts(1, seed=0, split="test")[0].text}"}}']
    file.write_text("\n".join(rows))
    given = Selection(prompts=Prompts(path=str(file)), max_tokens=20, verify=Verify("none"))
    assert measure(lm, given, None, CPU).accuracy is None
    file.write_text("\n".join([*rows, f'{{"id": "long", "prompt": "{"1+" * 60}1"}}']))
    known = Selection(prompts=Prompts(path=str(file)), max_tokens=20, verify=Verify("embedded"))
    found = measure(lm, known, None, CPU)
    assert found.failed == 1
    assert found.accuracy in (0.0, 0.5)
    assert found.stopped == 0.5
    file.write_text(f'{{"id": "long", "prompt": "{"1+" * 60}1"}}')
    with pytest.raises(RunError, match="none of 1 validation prompts can be answered; prompt long"):
        measure(lm, known, None, CPU)
