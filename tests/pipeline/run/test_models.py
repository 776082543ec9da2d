import shutil
from dataclasses import replace

import pytest

from nabla_core.errors import ModelError
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.types import Prompt
from pipeline.errors import ResumeError
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig, Training
from pipeline.run.models import identities, open_engines, render
from pipeline.store.checks.config_check import check_config, digest
from pipeline.store.checks.models_check import check_models
from pipeline.store.checks.owner import Owner
from pipeline.store.files import Folder
from pipeline.train_guide.config import Start


def test_a_scripted_lm_reads_the_prompt_as_it_is():
    assert render(Prompt.of("1+2", id="p"), LM("scripted?delay=1")) == "1+2"


def test_the_embedded_lm_reads_a_prompt_in_its_template():
    assert "1+2*3" in render(Prompt.of("1+2*3", id="p"), LM())


def test_a_prompt_that_the_template_refuses_is_named(monkeypatch):
    def refuse(prompt, tokenizer, template_date):
        raise ValueError("no system prompt")

    monkeypatch.setattr("pipeline.run.models.render_for_lm", refuse)
    message = "embedded cannot render prompt p7: ValueError: no system prompt"
    with pytest.raises(ModelError, match=message):
        render(Prompt.of("1+2", id="p7"), LM())


def test_scripted_engines_batch_as_the_runtime_says():
    engines = open_engines(LM("scripted"), Reward(), Runtime(max_batch=5))
    assert {engine.capacity for engine in engines.engines} == {5}


def test_a_scripted_lm_can_fail_to_load():
    with pytest.raises(ModelError, match="no weights"):
        open_engines(LM("scripted?fail=no weights"), Reward(), Runtime())


def test_models_are_identified_as_they_are_when_loaded(plain):
    reward = Reward(judge=str(plain.judge), guide=str(plain.guide), min_coverage=0.9)
    loaded = open_engines(LM(str(plain.lm)), reward, Runtime(device="cpu")).identities
    del loaded["tokenizer"]
    assert identities(LM(str(plain.lm)), reward) == loaded
    found = identities(LM(), Reward(guide="embedded-head"))
    assert [found[role].name for role in ("lm", "judge", "guide")] == [
        "embedded:lm",
        "embedded:judge",
        "embedded:head",
    ]


def test_the_judge_as_its_own_guide_and_models_on_other_machines(plain):
    found = identities(LM("/models/elsewhere"), Reward(judge=str(plain.judge)))
    assert found.keys() == {"judge", "guide"}
    assert found["judge"] == found["guide"]
    assert identities(LM("scripted"), Reward()) == {}


COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40


def test_another_name_of_the_same_commit_resumes_a_run_and_another_commit_does_not(
    plain, tmp_path, monkeypatch
):
    cache = tmp_path / "models--somebody--lm"
    shutil.copytree(plain.lm, cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = Folder(str(tmp_path / "run"))

    def resume(revision: str | None) -> str:
        lm = LM("somebody/lm", revision)
        config = GenerateConfig(run_dir=folder.uri, lm=lm, reward=Reward(str(plain.judge)))
        check_config(folder, config, Owner("generate", "traces/5"))
        check_models(folder, identities(lm, config.reward), rows=True)
        return digest(config)

    assert len({resume(revision) for revision in (None, "main", COMMIT)}) == 1
    with pytest.raises(
        ResumeError, match=rf"lm: somebody/lm {COMMIT} in the folder, .* {OTHER} now"
    ):
        resume(OTHER)


def test_rounds_that_are_compared_keep_the_name_of_the_revision_too(tmp_path):
    """A finished round loads no model again, so nothing would notice another one."""
    folder, owner = Folder(str(tmp_path)), Owner("improve")
    one = ImproveConfig(run_dir=str(tmp_path), lm=LM("somebody/lm"))
    check_config(folder, one, owner)
    for other, key in (
        (replace(one, lm=LM("somebody/lm", "main")), "lm.revision"),
        (replace(one, reward=Reward(judge_revision="main")), "reward.judge_revision"),
        (replace(one, training=Training(start=Start(revision="v2"))), "training.start.revision"),
    ):
        with pytest.raises(ResumeError, match=rf"{key}: null in the folder"):
            check_config(folder, other, owner)
