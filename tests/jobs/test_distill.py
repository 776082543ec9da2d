"""Students trained on a real Ray, and a run with such a student."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs import distill
from nabla_core import Prompt, drive, greedy, load_engines
from nabla_core.embedded import task
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.models.pretrained import load_tokenizer
from pipeline.training.cost import cost_of
from tests.pipeline.distill.exported import (
    fingerprint_of,
    pairs,
    settings,
    texts,
    tokens,
    write_export,
)
from tests.pipeline.distill.training import TEMPLATE, trained_alone
from tests.pipeline.export.runs import trace, write_run

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_workers_one_of_them_killed_learn_what_one_process_learns(
    plain, tmp_path, cluster, capsys, monkeypatch
):
    run, token = tmp_path / "student run", tmp_path / "token"
    made = tokens(texts(60), plain)
    export = write_export(
        tmp_path / "export",
        made,
        format="tokens",
        layout=None,
        tokenizer=fingerprint_of(plain),
    )
    asked = settings(plain, export, run, "workers.count=2")
    token.touch()
    monkeypatch.setenv("NABLA_FAILPOINTS", f"distill step 2.|{token}")
    assert distill.main(asked) == 0
    assert not token.exists()
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("step ")] == ["2", "4", "6"]
    line = json.loads(last)
    card = json.loads((run / "student" / "card.json").read_text())
    history = json.loads((run / "history.json").read_text())["measurements"]
    assert [m["step"] for m in history] == [2, 4, 6]
    assert card["metrics"]["selection_score"] == max(m["selection_score"] for m in history)
    assert line["step"] == card["chosen_step"]
    # Both workers' passes; the export does not tell what its rows cost.
    spent = [cost_of(m) for m in history]
    assert card["cost"] == history[-1]["cost"]
    assert spent[-1].steps == pytest.approx(3 * spent[0].steps, rel=0.2)
    assert spent[-1].data is None
    assert card["baseline"].keys() <= line.keys() | {"failed"}
    assert card["data"]["rows"] + card["data"]["held_out"] == 60
    assert card["data"]["exports"][0]["dropped"] == {"wrong": 1}
    assert str(tmp_path) not in json.dumps(card)
    alone = trained_alone(settings(plain, export, "unused"), tmp_path / "alone")
    last = max((run / "train").glob("checkpoint_2*"))
    weights = load_file(last / "model" / "model.safetensors")
    assert weights.keys() == alone.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, alone[name], rtol=1e-4, atol=1e-5)

    # The folder is a model for transformers and for our engines; nothing is left to do.
    student = run / "student"
    assert AutoTokenizer.from_pretrained(student).eos_token == "<eos>"
    model = AutoModelForCausalLM.from_pretrained(student)
    assert model.dtype == torch.float32
    models = LM(str(student)), Reward(str(plain.judge))
    (trace,) = drive(
        [greedy(Prompt.of("1+2*3", id="p"), max_tokens=8)],
        load_engines(*models, Runtime(device="cpu")),
    )
    assert trace.reward is not None
    assert "base_model:" in (student / "README.md").read_text()
    assert distill.main(asked) == 0
    assert "was already there" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(600)
def test_pairs_with_adapters_in_bfloat16_chosen_by_the_judge(plain, tmp_path, cluster, capsys):
    lm = shutil.copytree(plain.lm, tmp_path / "chat")
    (lm / "chat_template.jinja").write_text(TEMPLATE)
    export = write_export(tmp_path / "export", pairs(24), format="preference", layout=None)
    run = tmp_path / "run"
    more = [
        *(f"student.path={lm}", "optimise.lora.rank=2", "optimise.dtype=bfloat16"),
        *(f"validation.judge={plain.judge}", "validation.metric=reward", "optimise.steps=2"),
        *("validation.verify.method=none", "report_to=[tensorboard]"),
    ]
    assert distill.main(settings(plain, export, run, *more)) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["reward"] == line["selection_score"]
    assert line["accuracy"] is None
    card = json.loads((run / "student" / "card.json").read_text())
    assert (card["loss"], card["weights"]["method"]) == ("dpo + sft", "LoRA of rank 2, merged")
    assert card["dpo"] == {"beta": 0.1, "sft_weight": 1.0}
    names = {file.name for file in (run / "student").iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"}
    assert "adapter_model.safetensors" not in names
    assert load_tokenizer(str(run / "student"), None).chat_template == TEMPLATE
    assert any((run / "logs").rglob("events.out.*"))

    # The base is another one now: the finished folder says so and changes nothing.
    (lm / "chat_template.jinja").write_text(f"{TEMPLATE} ")
    assert distill.main(settings(plain, export, run, *more)) == 2
    assert "holds rows made with other models" in capsys.readouterr().err


def test_a_mistake_leaves_no_folder(plain, tmp_path, capsys):
    export, run = tmp_path / "export", tmp_path / "run"
    assert distill.main(settings(plain, export, run)) == 2
    assert f"{export} is no folder of `nabla export`" in capsys.readouterr().err
    write_export(export, tokens(texts(24), plain), format="tokens", layout=None)
    assert distill.main(settings(plain, export, run, "student.path=./none")) == 2
    assert "student.path: ./none: no such folder" in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_full_disk_ends_the_training_and_more_room_continues_it(
    plain, tmp_path, cluster, capsys, monkeypatch
):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1600k", "none", disk], check=False
    ).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        made = tokens(texts(24), plain)
        about = {"format": "tokens", "layout": None, "tokenizer": fingerprint_of(plain)}
        export, run = write_export(tmp_path / "export", made, **about), disk / "run"
        asked = settings(plain, export, run)
        assert distill.main(asked) == 1
        printed = capsys.readouterr()
        assert f"error: run folder {run}: its disk has" in printed.err
        assert "Traceback" not in printed.err
        before = json.loads((run / "history.json").read_text())["measurements"]
        saved = {path.name for path in (run / "train").glob("checkpoint_2*")}
        assert len(saved) == 1
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert distill.main(asked) == 0
        after = json.loads((run / "history.json").read_text())["measurements"]
        assert [m["step"] for m in after] == [2, 4, 6]
        # What was in the checkpoint was not measured again.
        assert after[:1] == before
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_error_of_a_worker_ends_the_job_and_data_that_changed_is_no_resume(
    plain, grouped, tmp_path, cluster, capsys
):
    made = tokens(texts(24), plain)
    about = {"format": "tokens", "layout": None, "tokenizer": fingerprint_of(plain)}
    export = write_export(tmp_path / "export", made, **about)
    other = settings(plain, export, tmp_path / "other", f"student.path={grouped.lm}")
    assert distill.main([*other, "workers.count=2"]) == 2
    assert "holds tokens of the tokenizer" in capsys.readouterr().err
    assert not (tmp_path / "other" / "student").exists()

    run = tmp_path / "run"
    assert distill.main(settings(plain, export, run)) == 0
    (run / "student" / "card.json").unlink()  # as if the driver had died before its last write
    shutil.rmtree(export)
    write_export(export, made[::-1], **about)
    capsys.readouterr()
    assert distill.main(settings(plain, export, run)) == 2
    assert "data export: not what it was at step 6" in capsys.readouterr().err
    shutil.rmtree(export)
    write_export(export, made, **about)
    assert distill.main(settings(plain, export, run)) == 0
    assert (run / "student" / "card.json").exists()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_run_folders_are_exported_for_the_student_and_trained_on(tmp_path, cluster, capsys):
    prompts = task.prompts(48, seed=0, split="train")
    traces = [
        trace(p.id, task.solve(p.text), question=p.text, answer=p.answer, correct=n < 40)
        for n, p in enumerate(prompts)
    ]
    teacher = write_run(tmp_path / "teacher", traces)
    run = tmp_path / "run"
    asked = [
        "--config",
        str(CONFIGS / "distill_embedded.yaml"),
        *(f"run_dir={run}", f"export.run_dir=[{teacher}]", "optimise.steps=4"),
        *("optimise.batch=8", "validation.prompts.limit=20", "validation.every=4"),
    ]
    assert distill.main(asked) == 0
    card = json.loads((run / "student" / "card.json").read_text())
    (export,) = card["data"]["exports"]
    assert (card["data"]["rows"], export["kept"], export["read"]) == (40, 40, 48)
    assert export["filters"]["verified"] is True
    assert export["sources"][0]["folder"] == "teacher"
    assert card["metrics"]["stopped"] == 1.0
    assert card["metrics"]["accuracy"] > 0.2
    assert (run / "export" / "_SUCCESS").exists()
    capsys.readouterr()
    assert distill.main([*asked, "export.filters.verified=false"]) == 2
    assert "export.filters.verified: True in the folder, False now" in capsys.readouterr().err
