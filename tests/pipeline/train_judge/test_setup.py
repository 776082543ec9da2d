"""A training without Ray: what is trained on, what is learned, what is delivered and measured."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from nabla_core.embedded import task
from nabla_core.errors import ModelError, VocabularyError
from nabla_core.models.loading import load_reward_model
from pipeline.config import load
from pipeline.errors import ConfigError, InputError
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.train_judge.models import judge_of
from pipeline.train_judge.report import markdown, summary
from pipeline.train_judge.setup import assemble, deliver
from tests.pipeline.export.runs import write_run
from tests.pipeline.train_judge.graded import runs, sample_rows, settings, train_prompts, wrong

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return runs(tmp_path_factory.mktemp("runs"), train_prompts(40))


def assembled(family, folders, *more):
    return assemble(load(TrainJudgeConfig, (), settings(family, folders, "unused", *more)), CPU)


def trained(made, scratch):
    """The checkpoint after the last step, and the losses on held-out answers before and after."""
    trainer = made.trainer(str(scratch / "files"), cpu=True, callbacks=[])
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_model(str(scratch / "checkpoint"))
    return scratch / "checkpoint", before, after


@pytest.mark.parametrize(
    "more",
    [
        ["goal.answers=final"],
        ["goal.answers=steps", "optimise.lora.rank=2"],
        ["goal.loss=pairs", "optimise.lora.rank=2"],
        ["goal.loss=pairs", "optimise.dtype=bfloat16", "start.path=lm"],
    ],
)
def test_every_loss_is_learned_and_the_judge_is_a_plain_model(plain, folders, tmp_path, more):
    made = assembled(plain, folders, "optimise.steps=12", "goal.scale=free", *more)
    checkpoint, before, after = trained(made, tmp_path)
    assert after < before
    examiner = made.examiner()
    factor, figures = deliver(made, examiner, checkpoint, tmp_path / "judge")
    assert factor == 1.0
    files = {file.name for file in (tmp_path / "judge").iterdir()}
    assert files >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not any(name.startswith("adapter") for name in files)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge")
    assert model.config.num_labels == 1
    load_reward_model(str(tmp_path / "judge"), revision=None, device=CPU, dtype=torch.float32)
    assert list(figures["given"]) == ["samples (held out)", "searches (held out)"]
    given = figures["given"]["samples (held out)"]
    assert given["answers"] == 2 * given["right"] > 0
    assert figures["fresh"]["answers"] == 6 * 4
    assert list(figures["fresh"]["best_of"]) == ["1", "2", "4"]
    text = markdown(figures, examiner.examine(judge_of(made.config)))
    assert "| best of | 1 | 2 | 4 |" in text
    assert summary(figures)["accuracy"] is None


def test_the_scale_of_the_last_judge_is_kept(plain, folders, tmp_path):
    made = assembled(plain, folders, "goal.scale=std", "optimise.learning_rate=1e-2")
    checkpoint, _, _ = trained(made, tmp_path)
    examiner = made.examiner()
    factor, _ = deliver(made, examiner, checkpoint, tmp_path / "judge")
    assert factor not in (1.0, 0.0)
    given = made.calibration()

    def spread(judge):
        found = 0.0
        for rewards in examiner.rewards(judge, given):
            mean = sum(rewards) / len(rewards)
            found += sum((reward - mean) ** 2 for reward in rewards)
        return found

    assert max(len(sheet.tokens) for sheet in given) > 1
    old, new = spread(judge_of(made.config)), spread((str(tmp_path / "judge"), None))
    assert new == pytest.approx(old, rel=1e-3)


def test_a_first_judge_has_no_last_one_and_may_keep_some_layers_of_its_start(
    plain, folders, tmp_path
):
    made = assembled(
        plain, folders, "reward.judge=null", "start.path=lm", "start.layers=1", "goal.scale=free"
    )
    assert judge_of(made.config) is None
    assert "judge" not in made.models
    checkpoint, _, _ = trained(made, tmp_path)
    factor, figures = deliver(made, made.examiner(), checkpoint, tmp_path / "judge")
    assert factor == 1.0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge")
    assert len(model.model.layers) == model.config.num_hidden_layers == 1
    description = made.describe(made.trainer(str(tmp_path / "t"), cpu=True, callbacks=[]))
    assert description["last_judge"] is None
    text = markdown(figures, None)
    assert "| best of | 1 | 2 | 4 |" in text
    assert "| last | " not in text
    with pytest.raises(ModelError, match=r"start\.layers=3: .* has 2 layers"):
        assembled(plain, folders, "start.layers=3")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["start.path=judge", "goal.scale=free"], "start.path=judge: reward.judge=null names"),
        (["start.path=lm", "goal.scale=std"], "set goal.scale=free"),
        (["start.layers=0"], "start.layers must be at least 1, got 0"),
    ],
)
def test_settings_of_a_first_judge_that_contradict_are_refused(plain, folders, more, message):
    with pytest.raises(ConfigError, match=message):
        assembled(plain, folders, "reward.judge=null", *more)


def test_steps_are_labelled_at_the_tokens_that_end_them(plain, tmp_path):
    prompts = train_prompts(40)
    rows = sample_rows(prompts)
    for row, prompt in zip(rows[1::2], prompts, strict=True):
        assert row["response"] == wrong(prompt)
    made = assembled(plain, [write_run(tmp_path / "run", rows)], "goal.answers=steps")
    for answer, example in zip(made.train.answers, made.train.examples, strict=True):
        assert len(example.positions) == task.STEPS + 1
        assert example.labels == (*[1.0] * 7, float(answer.right), float(answer.right))
        tokens = made.lm.tokenizer.convert_ids_to_tokens(
            [example.ids[p] for p in example.positions]
        )
        assert "".join(tokens[:-1]) == answer.text.replace(task.SEPARATOR, "")
        assert example.positions[-1] == len(example.ids) - 1


def test_hard_negatives_are_drawn_as_the_settings_say(plain, folders):
    made = assembled(plain, folders, "data.hard.weight=5", "data.hard.limit=0.3")
    hard = [a.kind for a, flag in zip(made.train.answers, made.train.hard, strict=True) if flag]
    assert set(hard) == {"final"}  # the answers of searches, above all right ones
    order = made._order([a.source for a in made.train.answers], made.train.hard)
    share = sum(made.train.hard[n] for n in order) / len(order)
    assert made.facts["hard_share"] == pytest.approx(0.3)
    assert 0.1 < share < 0.5


def test_prompts_of_the_validation_are_not_trained_on(plain, tmp_path):
    asked = task.prompts(6, seed=0, split="validation")
    data = write_run(tmp_path / "run", sample_rows([*train_prompts(40), *asked]))
    wide = write_run(tmp_path / "wide", sample_rows(train_prompts(2)))
    made = assembled(plain, [data], f"validation.runs=[{wide}]")
    trained_on = {a.prompt.text for part in (made.train, made.held_out) for a in part.answers}
    left_out = {p.text for p in [*asked, *train_prompts(2)]}
    assert trained_on.isdisjoint(left_out)
    assert len(trained_on) == 38
    assert len(made.answers.excluded) == 8


def test_what_cannot_be_trained_on_is_named(plain, grouped, folders, tmp_path):
    right = [row for row in sample_rows(train_prompts(30)) if row["correct"]]
    only = write_run(tmp_path / "right", right)
    with pytest.raises(InputError, match=r"answers .*, \d+ of them right: a judge needs right and"):
        assembled(plain, [only])
    with pytest.raises(InputError, match=r"its tokens are of the tokenizer .* data\.runs must be"):
        assembled(grouped, folders)
    with pytest.raises(ModelError, match="no tokenizer files in this folder"):
        assembled(plain, folders, f"start.path={tmp_path}")
    with pytest.raises(VocabularyError):
        assembled(plain, folders, f"start.path={grouped.judge}")
