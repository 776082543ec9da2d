"""TRL's trainers with our settings: what is trained on, in which precision, what is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nabla_core.errors import ModelError
from pipeline.config import load
from pipeline.distill.config import DistillConfig
from pipeline.distill.student import load_student, save_deliverable
from pipeline.errors import ConfigError, InputError
from tests.pipeline.distill.exported import (
    fingerprint_of,
    pairs,
    settings,
    texts,
    tokens,
    write_export,
)
from tests.pipeline.distill.training import TEMPLATE, prepared, trained_alone

# transformers and TRL warn of their own deprecations while trainers are built.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def chat(plain, tmp_path_factory):
    """The plain family's LM with a chat template that ends a response."""
    lm = shutil.copytree(plain.lm, tmp_path_factory.mktemp("chat") / "lm")
    (lm / "chat_template.jinja").write_text(TEMPLATE)
    return lm


def exported(plain, root: Path, made, **about) -> Path:
    return write_export(root / "export", made, tokenizer=fingerprint_of(plain), **about)


def test_the_loss_is_on_completions_and_their_stop_token_alone(plain, tmp_path):
    made = texts(12)
    export = exported(plain, tmp_path, made)
    trainer = prepared(settings(plain, export, "unused"), tmp_path).trainer
    as_tokens = {tuple(row["input_ids"]): row["labels"] for row in tokens(made, plain)}
    assert len(trainer.train_dataset) + len(trainer.eval_dataset) == 12
    for row in trainer.train_dataset:
        assert as_tokens[tuple(row["input_ids"])] == row["labels"]
        assert row["labels"][-1] == 1
        assert row["labels"][:17] == [-100] * 17
    assert trainer.args.gradient_accumulation_steps == 4
    assert trainer.args.report_to == []


def test_tokens_and_texts_of_one_response_teach_the_same(plain, tmp_path):
    made = texts(24)
    asked = [
        settings(plain, exported(plain, tmp_path / "a", made), "unused"),
        settings(
            plain,
            exported(plain, tmp_path / "b", tokens(made, plain), format="tokens", layout=None),
            "unused",
        ),
    ]
    first, second = (trained_alone(a, tmp_path / str(n)) for n, a in enumerate(asked))
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name])


def test_trained_weights_are_float32_in_either_precision(plain, tmp_path):
    export = exported(plain, tmp_path, texts(12))
    full = prepared(settings(plain, export, "x", "optimise.dtype=bfloat16"), tmp_path / "a").trainer
    assert {p.dtype for p in full.model.parameters()} == {torch.float32}
    assert full.args.bf16
    more = ("optimise.dtype=bfloat16", "optimise.lora.rank=2")
    lora = prepared(settings(plain, export, "x", *more), tmp_path / "b").trainer
    kinds = {(p.requires_grad, p.dtype) for p in lora.model.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    with pytest.raises(ModelError, match="'lm_head' cannot be adapted; there are down_proj"):
        prepared(settings(plain, export, "x", *more, "optimise.lora.targets=[lm_head]"), tmp_path)


def test_adapters_are_merged_into_a_plain_model(plain, tmp_path):
    asked = settings(
        plain, exported(plain, tmp_path, texts(24)), "x", "optimise.lora.rank=2",
        "optimise.learning_rate=0.05",
    )  # fmt: skip
    trainer = prepared(asked, tmp_path).trainer
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    save_deliverable(load(DistillConfig, (), asked), tmp_path / "saved", tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(plain.lm)
    assert not (tmp_path / "model" / "adapter_config.json").exists()
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        adapted = trainer.model(input_ids=ids).logits
        torch.testing.assert_close(model(input_ids=ids).logits, adapted, rtol=1e-3, atol=1e-3)
        assert (base(input_ids=ids).logits - adapted).abs().max() > 0.1
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) == 24


def test_pairs_are_learned_with_an_sft_term_on_the_chosen_response(plain, chat, tmp_path):
    export = exported(plain, tmp_path, pairs(24), format="preference", layout=None)
    asked = settings(
        plain, export, "x", f"student.path={chat}", "dpo.sft_weight=0.5", "optimise.steps=40"
    )
    trainer = prepared(asked, tmp_path).trainer
    assert (trainer.loss_types, trainer.loss_weights) == (["sigmoid", "sft"], [1.0, 0.5])
    assert all(row["chosen_ids"][-1] == 1 for row in trainer.train_dataset)
    before = chosen_likelihood(trainer)
    trainer.train()
    assert chosen_likelihood(trainer) > before + 1
    assert not any(p.requires_grad for p in trainer.ref_model.parameters()) or all(
        torch.equal(a, b)
        for a, b in zip(
            trainer.ref_model.parameters(),
            AutoModelForCausalLM.from_pretrained(chat).parameters(),
            strict=True,
        )
    )


def chosen_likelihood(trainer) -> float:
    """Mean log-likelihood of the chosen responses (nats)."""
    total = 0.0
    for row in trainer.train_dataset:
        ids = torch.tensor([row["prompt_ids"] + row["chosen_ids"]])
        with torch.no_grad():
            logits = trainer.model(input_ids=ids).logits.float().log_softmax(-1)
        start = len(row["prompt_ids"])
        total += float(logits[0, start - 1 : -1].gather(1, ids[0, start:, None]).sum())
    return total / len(trainer.train_dataset)


def test_long_rows_are_left_out_and_counted(plain, tmp_path):
    made = texts(12)
    made += [{**texts(1)[0], "prompt": "1+" * 30, "prompt_id": f"long {n}"} for n in range(2)]
    export = exported(plain, tmp_path, made)
    ready = prepared(settings(plain, export, "x", "data.held_out=0"), tmp_path / "a")
    assert dict(ready.left_out) == {"rows longer than 64 tokens": 2}
    assert len(ready.trainer.train_dataset) == 12
    with pytest.raises(InputError, match="no rows are left: all 14 are longer than 9 tokens"):
        prepared(
            settings(plain, export, "x", "data.held_out=0", "data.max_length=9"), tmp_path / "b"
        )


def test_a_student_that_would_not_learn_to_stop_is_refused(plain, chat, tmp_path):
    made = [{**row, "labels": [*row["labels"][:-1], -100]} for row in tokens(texts(12), plain)]
    export = exported(plain, tmp_path, made, format="tokens", layout=None)
    with pytest.raises(InputError, match=r"row 1 does not teach lm to stop: .* \[1\]"):
        prepared(settings(plain, export, "x"), tmp_path / "a")
    endless = shutil.copytree(chat, tmp_path / "endless")
    (endless / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    export = exported(plain, tmp_path / "p", pairs(12), format="preference", layout=None)
    with pytest.raises(InputError, match="does not teach endless to stop"):
        prepared(settings(plain, export, "x", f"student.path={endless}"), tmp_path / "b")


def test_a_student_that_cannot_read_the_rows_is_refused(plain, grouped, tmp_path):
    export = exported(plain, tmp_path, tokens(texts(4), plain), format="tokens", layout=None)
    other = f"student.path={grouped.lm}"
    with pytest.raises(InputError, match="holds tokens of the tokenizer sha256:"):
        prepared(settings(plain, export, "x", other), tmp_path)
    export = exported(plain, tmp_path / "t", texts(4))
    with pytest.raises(InputError, match="holds texts in the template of the tokenizer"):
        prepared(settings(plain, export, "x", other), tmp_path)
    export = exported(plain, tmp_path / "p", pairs(4), format="preference", layout=None)
    with pytest.raises(InputError, match="has no chat template: export with layout=text"):
        prepared(settings(plain, export, "x"), tmp_path)


def test_a_base_that_is_no_language_model_is_refused(plain, tmp_path):
    config = load(
        DistillConfig, (), settings(plain, tmp_path, "x", f"student.path={tmp_path / 'none'}")
    )
    with pytest.raises(ModelError, match="no such folder"):
        load_student(config)


def test_templates_are_told_the_date_of_the_config_and_never_that_of_the_clock(plain, tmp_path):
    lm = shutil.copytree(plain.lm, tmp_path / "dated")
    (lm / "chat_template.jinja").write_text("{{ strftime_now('%d+%m') }}" + TEMPLATE)
    made = pairs(12)
    answered = [{**row, "completion": row["chosen"]} for row in made]
    encode = AutoTokenizer.from_pretrained(lm).encode
    for name, rows, about, column in (
        ("pairs", made, {"format": "preference", "layout": None}, "prompt_ids"),
        ("answers", answered, {"format": "sft", "layout": "prompt_completion"}, "input_ids"),
    ):
        export = write_export(tmp_path / name, rows, **about)
        asked = settings(plain, export, "unused", f"student.path={lm}")
        for more, date in (([], "26+07"), (["template_date=2001-03-04"], "04+03")):
            trainer = prepared([*asked, *more], tmp_path / name / date).trainer
            for row in trainer.train_dataset:
                assert row[column][:5] == encode(date)
    with pytest.raises(ConfigError, match="template_date must be a date such as 2024-07-26, got"):
        load(DistillConfig, (), [*asked, "template_date=today"])
