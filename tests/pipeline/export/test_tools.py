"""Prompts with tools from a file to TRL's trainers: what was generated is what is trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from nabla_core import drive
from nabla_core.config import Decoding, Sampling
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.distill.config import DistillConfig, TrainingRows
from pipeline.distill.exports import read_exports
from pipeline.distill.rows import load_rows
from pipeline.errors import InputError
from pipeline.export.config import ExportConfig, Filters, NearDuplicates, Tokenizer
from pipeline.export.preview import preview
from pipeline.generate.recipe import TraceRecipe
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Item, Prompts, fingerprint, read
from pipeline.tables.traces import TRACES, key_columns, prompt_of
from tests.core.chat_templates import PLAIN
from tests.core.tool_models import ADD, CALLED, USER, judge_folder, lm_folder, prompts_file
from tests.pipeline.export.runs import exported, rows_of, write_run

SAMPLES = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The models, the rows that they made in this process, and the run folder of these rows."""
    root = tmp_path_factory.mktemp("tools")
    lm, judge = lm_folder(root / "lm"), judge_folder(root / "judge")
    maker = TraceRecipe(
        lm=LM(str(lm)), reward=Reward(judge=str(judge)), runtime=Runtime(device="cpu"),
        decoding=Decoding(method="sample", max_tokens=24, sample=Sampling(1.0)),
        verify=Verify(method="exact"), seed=0, config_hash="c0ffee",
    ).open()  # fmt: skip
    prompts = [
        replace(item.prompt, sample=sample)
        for item in read(Prompts(path=str(prompts_file(root / "p.jsonl"))))
        for sample in range(SAMPLES)
    ]
    by_key = {(prompt.id, prompt.sample): prompt for prompt in prompts}
    rows = []
    for trace in drive(map(maker.flow, prompts), maker.engines):
        prompt = by_key[trace.prompt_id, trace.sample]
        keys = key_columns(Item(prompt, fingerprint(prompt)), "worker", 1, None)
        rows.append({**maker.row(prompt, trace), **keys})
    # A text of messages cannot express the special tokens that a random model writes.
    tokenizer = AutoTokenizer.from_pretrained(lm)
    special = set(tokenizer.all_special_ids) - {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    rows = [row for row in rows if special.isdisjoint(row["response_token_ids"])]
    rows.sort(key=lambda row: (["none", "tools", "called"].index(row["prompt_id"]), row["sample"]))
    # Something to prefer: the last response of each prompt stands for the first one of a search.
    for n, row in enumerate(rows):
        other = next(
            r for r in rows
            if r["prompt_id"] == row["prompt_id"] and r["response"] != row["response"]
            and r["finish_reason"] == "stop"
        )  # fmt: skip
        row |= {"base_response": other["response"], "base_token_ids": other["response_token_ids"]}
        row |= {
            "correct": n % 2 == 0,
            "base_correct": n % 2 == 1,
            "reward": 2.0,
            "base_reward": 1.0,
        }
    run = write_run(root / "run", rows, config={"lm": {"path": str(lm), "revision": None}})
    return lm, judge, rows, run


def told(lm, row, **options) -> str:
    """The prompt of a row as transformers renders it."""
    tools = row["tools"] and json.loads(row["tools"])
    clock = date(2024, 7, 26).strftime
    text: str = AutoTokenizer.from_pretrained(lm).apply_chat_template(
        [*turns_by_id()[row["prompt_id"]]], tools=tools, tokenize=False, strftime_now=clock,
        add_generation_prompt=True, **options,
    )  # fmt: skip
    return text


def turns_by_id():
    question = {"role": "user", "content": "a question?"}
    return {"none": [question], "tools": [USER], "called": CALLED}


def test_traces_hold_the_tools_and_what_the_model_read(made):
    lm, _, rows, run = made
    stored = pq.read_table(f"{run}/data", schema=TRACES).to_pylist()
    assert len(stored) == len(rows) > SAMPLES
    tools = {row["prompt_id"]: row["tools"] for row in stored}
    assert tools["none"] is None
    assert json.loads(tools["tools"]) == [ADD, {"name": "now"}]
    assert json.loads(tools["called"]) == [ADD]
    for row in stored:
        assert row["rendered_prompt"] == told(lm, row)
        prompt = prompt_of(row)
        assert list(prompt.messages) == turns_by_id()[row["prompt_id"]]
        assert row["input_fingerprint"] == fingerprint(prompt)


def trainer_of(trainer, config, lm, out, tmp_path, model=None):
    return trainer(
        model or AutoModelForCausalLM.from_pretrained(lm),
        args=config(
            output_dir=str(tmp_path / "t"), report_to=[], use_cpu=True, bf16=False, max_steps=1,
            disable_tqdm=True, max_length=None,
        ),
        train_dataset=load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache")),
        processing_class=AutoTokenizer.from_pretrained(lm),
    )  # fmt: skip


def ended(rows):
    return [row for row in rows if row["finish_reason"] == "stop"]


@pytest.mark.parametrize("layout", ["prompt_completion", "messages", "text", None])
def test_trl_tokenises_what_was_generated(made, tmp_path, layout):
    lm, _, rows, run = made
    settings = {"layout": layout} if layout else {"format": "tokens"}
    exported(tmp_path / "out", run, **settings)
    prepared = list(trainer_of(SFTTrainer, SFTConfig, lm, tmp_path / "out", tmp_path).train_dataset)
    tokenizer = AutoTokenizer.from_pretrained(lm)
    generated = [
        tokenizer.encode(row["rendered_prompt"], add_special_tokens=False)
        + row["response_token_ids"]
        for row in ended(rows)
    ]
    assert len(prepared) == len(generated) >= SAMPLES
    for row, ids in zip(prepared, generated, strict=True):
        assert row["input_ids"][: len(ids)] == ids
        # The template ends a turn with a line. TRL ends texts that have no turns with its own eos.
        end = {None: "", "text": "<eos>"}.get(layout, "\n")
        assert tokenizer.decode(row["input_ids"][len(ids) :]) == end


def test_preferences_labels_and_rewards_are_read_with_the_tools(made, tmp_path):
    lm, judge, rows, run = made
    tokenizer = AutoTokenizer.from_pretrained(lm)
    prompts = {row["prompt_id"]: tokenizer.encode(told(lm, row)) for row in rows}
    classifier = AutoModelForSequenceClassification.from_pretrained(judge)
    for format, trainer, config, model in (
        ("preference", DPOTrainer, DPOConfig, None),
        ("kto", KTOTrainer, KTOConfig, None),
        ("reward", RewardTrainer, RewardConfig, classifier),
    ):
        out, scratch = tmp_path / format, tmp_path / f"{format}-scratch"
        exported(out, run, format=format)
        found = rows_of(out)
        of = [row["prompt_id"] for row in found]
        assert {row["prompt_id"]: row["tools"] for row in found} == {
            row["prompt_id"]: row["tools"] for row in rows
        }
        prepared = list(trainer_of(trainer, config, lm, out, scratch, model).train_dataset)
        assert len(prepared) == len(of) >= 3
        for name, row in zip(of, prepared, strict=True):
            ids = row.get("prompt_ids") or row["chosen_ids"][: len(prompts[name])]
            assert ids == prompts[name], format


@pytest.mark.parametrize("format", ["rl", "groups"])
def test_a_row_for_each_prompt_has_its_tools_and_its_turns(made, tmp_path, format):
    *_, run = made
    exported(tmp_path / "out", run, format=format)
    rows = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["prompt"] for row in rows] == list(turns_by_id().values())
    assert [row["tools"] and json.loads(row["tools"]) for row in rows] == [
        None,
        [ADD, {"name": "now"}],
        [ADD],
    ]
    if format == "groups":
        assert {turns[0]["role"] for turns in rows[2]["completions"]} == {"assistant"}


def test_the_card_says_that_prompts_have_tools(made, tmp_path):
    *_, run = made
    outcome = exported(tmp_path / "out", run)
    assert outcome.facts["tools"] is True
    assert "the column `tools` is the JSON text of" in (tmp_path / "out/README.md").read_text()
    metadata = rows_of(tmp_path / "out", config="metadata")
    assert {row["prompt_id"] for row in metadata if row["tools"]} == {"tools", "called"}


def test_rows_without_tools_have_neither_the_column_nor_turns_of_another_form(made, tmp_path):
    lm, _, rows, _ = made
    plain = [row for row in rows if row["prompt_id"] == "none"]
    run = write_run(tmp_path / "run", plain, config={"lm": {"path": str(lm), "revision": None}})
    facts = exported(tmp_path / "out", run).facts
    first, *_ = rows_of(tmp_path / "out")
    assert first == {
        "prompt": turns_by_id()["none"],
        "completion": [{"role": "assistant", "content": ended(plain)[0]["response"]}],
        "prompt_id": "none",
        "sample": ended(plain)[0]["sample"],
    }
    assert facts["tools"] is False


def test_a_student_whose_template_ignores_tools_is_refused(made, tmp_path):
    *_, run = made
    other = lm_folder(tmp_path / "student", PLAIN)
    settings: dict[str, Any] = {"tokenizer": Tokenizer(path=str(other))}
    config = ExportConfig(run_dir=(run,), out=str(tmp_path / "out"), **settings)
    told = (
        "student: its chat template leaves out the tools .* or export layout=text or format=tokens"
    )
    for refused in (lambda: preview(config), lambda: exported(tmp_path / "out", run, **settings)):
        with pytest.raises(InputError, match=told):
            refused()
    assert not (tmp_path / "out").exists()
    assert exported(tmp_path / "texts", run, layout="text", **settings).facts["kept"] > 0


def test_filters_and_the_preview_read_prompts_with_tools(made, tmp_path):
    *_, run = made
    near = Filters(near_duplicates=NearDuplicates(threshold=0.99, text="prompt"))
    facts = exported(tmp_path / "out", run, filters=near).facts
    # The same question of the user, whatever was called for it.
    assert facts["kept"] == 2
    found = preview(ExportConfig(run_dir=(run,), out=str(tmp_path / "other"), layout="messages"))
    messages = next(row["messages"] for row in found.rows if row["prompt_id"] == "called")
    assert messages[:-1] == CALLED


@pytest.mark.parametrize("layout", ["prompt_completion", "messages"])
def test_a_student_is_trained_on_rows_with_and_without_tools(made, tmp_path, layout):
    """Two exports, of which one has turns of another form."""
    lm, _, rows, run = made
    plain = [row for row in rows if row["prompt_id"] == "none"]
    own = {"lm": {"path": str(lm), "revision": None}}
    other = write_run(tmp_path / "run", [{**r, "prompt_id": "own"} for r in plain], config=own)
    outs = [tmp_path / "a", tmp_path / "b"]
    for out, source in zip(outs, (run, other), strict=True):
        exported(out, source, layout=layout)
    data = TrainingRows(exports=tuple(map(str, outs)), held_out=0.0)
    found = load_rows(read_exports(DistillConfig(data=data)), data, tmp_path / "scratch").train
    turns = {**turns_by_id(), "own": turns_by_id()["none"]}
    assert [row["prompt_id"] for row in found] == [
        *(row["prompt_id"] for row in ended(rows)), *("own" for _ in ended(plain)),
    ]  # fmt: skip
    for row in found:
        assert row["prompt"] == turns[row["prompt_id"]]
        assert [turn["role"] for turn in row["completion"]] == ["assistant"]
        assert (row["tools"] is not None) == (row["prompt_id"] in ("tools", "called"))
