"""`jobs.generate` on real models, tiny and random."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from jobs import generate
from nabla_core.embedded.tokenizer import IDS
from nabla_core.models.identity import identify
from nabla_core.types import Identity
from pipeline.run import models


@pytest.fixture
def copies(plain, tmp_path):
    """The folders of the plain family's models, which a test may change."""
    folders = {"lm": plain.lm, "judge": plain.judge, "guide": plain.guide}
    return {role: shutil.copytree(path, tmp_path / role) for role, path in folders.items()}


@pytest.fixture
def command(cluster, copies, tmp_path):
    """Runs `generate` on so many prompts with the copied models; returns the exit code."""

    def run(count, *more):
        path = tmp_path / "prompts.jsonl"
        rows = [{"id": f"p{n}", "prompt": f"{n}+1"} for n in range(count)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = [
            *(f"run_dir={tmp_path / 'run'}", f"prompts.path={path}", "runtime.device=cpu"),
            *(f"lm.path={copies['lm']}", f"reward.judge={copies['judge']}"),
            *(f"reward.guide={copies['guide']}", "decoding.max_tokens=4"),
            "decoding.nabla.proposals=ranked",
        ]
        return generate.main([*settings, *more])

    return run


def flip(file):
    """Change one bit in the middle of a file."""
    found = bytearray(file.read_bytes())
    found[len(found) // 2] ^= 1
    file.write_bytes(bytes(found))


def test_new_weights_at_an_old_path_are_refused_before_a_row_is_made(
    command, copies, tmp_path, capsys
):
    run = tmp_path / "run"
    assert command(4) == 0
    capsys.readouterr()
    before = sorted((file, file.read_bytes()) for file in (run / "data").iterdir())
    for role, folder in copies.items():
        old = identify(str(folder), None).revision
        flip(folder / "model.safetensors")
        new = identify(str(folder), None).revision
        for asked in ([], ["--dry-run"]):
            assert command(8, *asked) == 2
            error = capsys.readouterr().err
            assert f"{run} holds rows made with other models" in error
            assert f"  {role}: {role} {old} in the folder, {role} {new} now" in error
        flip(folder / "model.safetensors")
    assert sorted((file, file.read_bytes()) for file in (run / "data").iterdir()) == before
    assert command(8) == 0
    rows = pq.read_table(run / "data").to_pylist()
    assert [row["prompt_id"] for row in rows] == [f"p{n}" for n in range(8)]
    for column, role in (("generation", "lm"), ("judge", "judge"), ("guide", "guide")):
        expected = identify(str(copies[role]), None).revision
        assert {row[f"{column}_revision"] for row in rows} == {expected}


@pytest.mark.long
def test_a_worker_that_finds_other_files_than_the_driver_ends_the_run_by_name(
    command, copies, tmp_path, capsys, monkeypatch
):
    found = identify(str(copies["judge"]), None)
    others = {"judge": Identity("judge", "sha256:0123456789abcdef")}
    monkeypatch.setattr(models, "visible", lambda sources: others)
    assert command(4) == 2
    error = capsys.readouterr().err
    assert f"are not those of the run in {tmp_path / 'run'}; every node needs the same" in error
    assert f"  judge: judge sha256:0123456789abcdef in the run, judge {found.revision} on" in error
    assert not list((tmp_path / "run").rglob("*.parquet"))


def test_models_that_the_driver_cannot_see_are_named_by_the_workers(
    command, copies, tmp_path, capsys, monkeypatch
):
    with monkeypatch.context() as blind:
        blind.setattr(models, "visible", lambda sources: {})
        assert command(2) == 0
    written = json.loads((tmp_path / "run" / "models.json").read_text())
    assert sorted(written) == ["guide", "judge", "lm", "tokenizer"]
    flip(copies["lm"] / "config.json")
    assert command(4) == 2
    assert f"  lm: lm {written['lm']['revision']} in the folder, " in capsys.readouterr().err


def test_models_in_folders_answer_judge_and_guide(cluster, plain, tmp_path):
    path, run = tmp_path / "p.jsonl", tmp_path / "run"
    texts = ["1+2", "3*4", "0" * 4000]
    path.write_text("".join(json.dumps({"prompt": t, "id": t[:3]}) + "\n" for t in texts))
    arguments = [
        *(f"run_dir={run}", f"prompts.path={path}", f"lm.path={plain.lm}"),
        *(f"reward.judge={plain.judge}", f"reward.guide={plain.guide}", "runtime.device=cpu"),
        *("decoding.max_tokens=6", "decoding.nabla.proposals=ranked", "max_dead_fraction=1"),
    ]
    # A start with a wrong model leaves no row, and does not occupy the folder.
    assert generate.main([*arguments, f"reward.judge={plain.lm}"]) == 2
    assert generate.main(arguments) == 3
    rows = pq.read_table(run / "data").to_pylist()
    assert [row["prompt_id"] for row in rows] == ["1+2", "3*4"]
    for row in rows:
        assert row["generation_model"] == plain.lm.name
        assert (row["judge_model"], row["guide_model"]) == (plain.judge.name, plain.guide.name)
        assert row["judge_revision"] != row["guide_revision"]
        assert 1 <= len(row["response_token_ids"]) <= 6
        assert row["reward"] >= row["base_reward"]
        assert row["cost"]["rm_backward"] >= 1
        assert row["cost"]["rollouts"] == 1 + len(row["revisions"])
    (dead,) = pq.read_table(run / "dead_letter").to_pylist()
    assert dead["error"].startswith("ContextError: prompt 000 is 4000 tokens long")


def test_a_path_that_is_no_folder_is_refused_before_anything_is_written(copies, tmp_path, capsys):
    path, run = tmp_path / "p.jsonl", tmp_path / "run"
    path.write_text('{"prompt": "1+1"}\n')
    models = {"lm.path": "lm", "reward.judge": "judge", "reward.guide": "guide"}
    right = {key: f"{key}={copies[role]}" for key, role in models.items()}
    for key in models:
        wrong = {**right, key: f"{key}={tmp_path}/none"}
        assert generate.main([f"run_dir={run}", f"prompts.path={path}", *wrong.values()]) == 2
        *_, said = capsys.readouterr().err.splitlines()
        assert said == f"error: {key}: {tmp_path}/none: no such folder"
        assert not run.exists()


NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"
)


@pytest.mark.long
def test_a_judge_that_refuses_system_turns_is_named_before_a_row_is_made(
    command, copies, tmp_path, capsys
):
    (copies["judge"] / "chat_template.jinja").write_text(NO_SYSTEM)
    assert command(9, "prompts.system=1+1") == 2
    told = "its chat template refuses the system turns of these prompts (System role not supported)"
    assert f"{copies['judge']}: {told}; put the text into" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("parts/*.parquet"))


@pytest.mark.long
def test_a_model_that_ignores_tools_is_named_before_a_row_is_made(
    command, copies, tmp_path, capsys
):
    path = tmp_path / "tools.jsonl"
    path.write_text('{"prompt": "1+1", "tools": [{"name": "add"}]}\n' * 4)
    assert command(4, f"prompts.path={path}") == 2
    assert f"{copies['lm']} has no chat template, which tools need" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("parts/*.parquet"))


def test_prompts_that_a_model_fails_for_are_dead_letters_with_its_error(command, copies, tmp_path):
    (copies["judge"] / "chat_template.jinja").write_text(NO_SYSTEM)
    rows = [{"id": f"p{n}", "prompt": f"{n}+1"} for n in range(4)]
    weights = copies["lm"] / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.embed_tokens.weight"][IDS["("]] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    rows[1]["prompt"] = "(1+1"
    rows[2] = {"id": "p2", "prompt": [{"role": r, "content": "2+1"} for r in ("system", "user")]}
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    # The rows of the likelihood have an entry for every token, the one that fails among them.
    command(4, f"prompts.path={path}", "decoding.nabla.objective.nll_coeff=0")
    dead = pq.read_table(tmp_path / "run" / "dead_letter").to_pylist()
    assert {row["prompt_id"]: row["error"] for row in dead} == {
        "p1": "NonFiniteError: prompt p1: the LM's logits at position 0 of the response are not "
        "finite",
        "p2": f"RenderError: prompt p2: the chat template of {copies['judge']} cannot render it: "
        "System role not supported",
    }
    assert {row["reward"] for row in dead} == {None}
    made = pq.read_table(tmp_path / "run" / "data").to_pylist()
    assert [row["prompt_id"] for row in made] == ["p0", "p3"]
