"""`jobs.generate` on a real Ray, with scripted engines."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from ray._private import state as ray_state

from jobs import generate, status
from jobs.display.progress import Progress
from tests.pipeline.rows import keys

ROOT = Path(__file__).parents[2]


def rows(run: Path, name: str = "data") -> list[dict]:
    return [r for f in sorted((run / name).glob("*.parquet")) for r in pq.read_table(f).to_pylist()]


def content(run: Path) -> list[dict]:
    """Rows without the columns that differ from run to run: when, where and in how many seconds
    they were made."""
    kept = []
    for row in rows(run) + rows(run, "dead_letter"):
        del row["created_at"], row["worker"], row["attempt"]
        if row["cost"] is not None:
            del row["cost"]["seconds"]
        kept.append(row)
    return kept


def await_ledgers() -> None:
    """Wait until no ledger is alive in this Ray, of whatever run."""
    deadline = time.monotonic() + 60
    while alive := [
        actor
        for actor in ray_state.actors().values()
        if actor["ActorClassName"] == "Ledger" and actor["State"] != "DEAD"
    ]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)


@pytest.fixture(scope="module")
def finished(cluster: str, tmp_path_factory) -> Path:
    """A folder with prompts.jsonl, three prompts, and run, a finished run of them in files of two
    rows."""
    base = tmp_path_factory.mktemp("finished")
    path = base / "prompts.jsonl"
    texts = {"p0": "one", "p1": "two", "p2": "three"}
    lines = (json.dumps({"id": name, "prompt": text}) for name, text in texts.items())
    path.write_text("\n".join(lines))
    given = [f"run_dir={base / 'run'}", f"prompts.path={path}", "lm.path=scripted"]
    assert generate.main([*given, "store.rows_per_file=2"]) == 0
    return base


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The prompts of the finished run, and a copy of its folder at the place that `job` uses."""
    path = Path(shutil.copy(finished / "prompts.jsonl", tmp_path))
    return path, shutil.copytree(finished / "run", tmp_path / "run")


def test_a_run_from_prompts_to_done_marker(job, prompts, tmp_path, capsys):
    path = prompts(*(f"question {n}" for n in range(24)))
    log = tmp_path / "rollouts"
    lm = f"scripted?delay=0.05&log={log}"
    assert job(path, "samples_per_prompt=2", "cluster.in_flight=4", lm=lm, actors=2) == 0
    run = tmp_path / "run"
    assert keys(run) == [(f"p{n}", s) for n in range(24) for s in range(2)]
    assert (run / "_SUCCESS").exists()
    assert list((run / "parts").iterdir()) == []
    made = rows(run)
    assert len({row["worker"] for row in made}) == 2
    assert all(row["attempt"] == 1 and row["error"] is None for row in made)
    first, second = made[:2]
    assert first["response"] != second["response"]
    assert first["generation_model"] == "scripted"
    assert first["reward"] >= first["base_reward"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["counts"] == {"rows": 48, "finished": 48, "dead": 0}
    assert manifest["cost"]["rollouts"] == len(log.read_text().splitlines())
    table = capsys.readouterr().out
    assert "48 of 48" in table
    assert f"{manifest['proposals']['accepted']} of {manifest['proposals']['made']}" in table

    before = log.read_text()
    assert job(path, "samples_per_prompt=2", "cluster.in_flight=4", lm=lm) == 0
    assert log.read_text() == before
    assert rows(run) == made
    assert "was already done" in capsys.readouterr().out

    loaded = datasets.load_dataset(str(run), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 48


def test_an_interrupted_run_commits_what_waits_and_can_be_resumed(
    cluster, job, prompts, tmp_path, capsys, interruptible
):
    path = prompts(*(f"question {n}" for n in range(24)))
    log, run = tmp_path / "rollouts", tmp_path / "run"
    lm = f"scripted?delay=0.3&log={log}"
    settings = ["runtime.max_batch=1", "decoding.method=sample", "store.flush_rows=100"]
    settings += ["store.flush_seconds=1000", "cluster.in_flight=2"]
    command = [
        *(sys.executable, "-m", "jobs.generate", f"run_dir={run}", f"prompts.path={path}"),
        *(f"lm.path={lm}", f"cluster.address={cluster}", *settings),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        deadline = time.monotonic() + 90
        while not log.exists() or len(log.read_text().splitlines()) < 8:
            assert time.monotonic() < deadline
            assert driver.poll() is None
            time.sleep(0.05)
        driver.send_signal(signal.SIGINT)
        output, errors = driver.communicate()
    assert driver.returncode == 130, errors
    assert "Traceback" not in errors
    parts = sorted((run / "parts").iterdir())
    committed = [q for part in parts for q in pq.read_table(part)["question"].to_pylist()]
    assert len(committed) >= 7
    line = f"interrupted: {run}, {len(committed)} of 24 rows committed; the same command continues"
    assert f"{line} from it\n" in output
    # Rows were grouped. Into how many parts depends on how often a worker had nothing to do.
    assert len(parts) < len(committed)
    assert status.main([f"run_dir={run}"]) == 0
    output = capsys.readouterr().out
    assert "stopped" in output
    assert f"committed  {len(committed)} of 24" in output
    assert job(path, *settings, lm=lm) == 0
    served = log.read_text().splitlines()
    assert all(served.count(question) == 1 for question in committed)
    assert len(rows(run)) == 24


def test_content_depends_on_neither_actors_nor_batches_nor_flushing(job, prompts, tmp_path):
    path = prompts(*(f"question {n}" for n in range(12)), "!raise", "!long")
    assert job(path) == 3
    first = content(tmp_path / "run")
    others = [
        "cluster.in_flight=3", "runtime.max_batch=2",
        "store.flush_rows=5", "store.rows_per_file=4",
    ]  # fmt: skip
    assert job(path, f"run_dir={tmp_path / 'other'}", *others, actors=2) == 3
    assert content(tmp_path / "other") == first


def test_prompts_that_fail_kill_or_hang_end_as_dead_letters_alone(job, prompts, tmp_path, capsys):
    path = prompts("a", "!raise", "b", "!kill", "c", "!long", "d", "!hang", "e", "f")
    settings = ["cluster.hang_seconds=2", "max_attempts=2", "max_dead_fraction=1"]
    assert job(path, *settings, actors=2) == 3
    run = tmp_path / "run"
    assert [key for key, _ in keys(run)] == ["p0", "p2", "p4", "p6", "p8", "p9"]
    assert all(row["attempt"] == 1 for row in rows(run))
    errors = {row["prompt_id"]: row["error"] for row in rows(run, "dead_letter")}
    died = "WorkerDied: 2 processes died on it alone; the last: "
    assert errors == {
        "p1": "ValueError: the script raises on '!raise'",
        "p3": died + "killed, crashed or out of memory",
        "p5": "ContextError: prompt p5 does not fit the scripted context",
        "p7": died + "no progress for 2 s",
    }
    assert all(row["response"] is None for row in rows(run, "dead_letter"))
    assert "4 (2 WorkerDied, 1 ValueError, 1 ContextError)" in capsys.readouterr().out

    assert status.main([f"run_dir={run}"]) == 0
    output = capsys.readouterr().out
    assert "done" in output
    assert "committed  10 of 10" in output
    assert "dead       4" in output


def test_dead_letters_are_tried_again_with_retry_dead(job, prompts, tmp_path):
    assert job(prompts("a", "!raise"), "max_dead_fraction=1") == 3
    run = tmp_path / "run"
    (old,) = rows(run, "dead_letter")
    assert job(prompts("a", "!raise")) == 3
    assert rows(run, "dead_letter") == [old]
    assert job(prompts("a", "!raise"), "--retry-dead") == 3
    (new,) = rows(run, "dead_letter")
    assert new["created_at"] > old["created_at"]
    assert keys(run) == [("p0", 0)]


def test_a_run_with_too_many_dead_letters_is_aborted_and_says_why(job, prompts, tmp_path, capsys):
    path = prompts(*["!raise"] * 60, *["fine"] * 400)
    code = job(path, "cluster.in_flight=2", "max_dead_fraction=0.2", lm="scripted?delay=0.05")
    assert code == 3
    assert not (tmp_path / "run" / "_SUCCESS").exists()
    output = capsys.readouterr().out
    assert "ended early, too many dead letters" in output
    assert "ValueError" in output
    await_ledgers()


def test_the_ledger_of_a_finished_run_ends(finished):
    await_ledgers()


def test_edited_inputs_are_refused_or_redone_and_appended_ones_are_new(
    job, prompts, copied, capsys
):
    _, run = copied
    before = {row["prompt_id"]: row for row in rows(run)}
    path = prompts("one", "TWO", "three", "four")
    assert job(path) == 2
    assert "p1#0" in capsys.readouterr().err
    assert {row["prompt_id"]: row for row in rows(run)} == before
    assert job(path, "allow_input_change=true") == 0
    told = "1 row was copied to superseded/ in 1 file: 1 of edited prompts"
    assert told in " ".join(capsys.readouterr().err.split())
    assert json.loads((run / "manifest.json").read_text())["notes"] == [told]
    after = {row["prompt_id"]: row for row in rows(run)}
    assert list(after) == ["p0", "p1", "p2", "p3"]
    assert (after["p0"], after["p2"]) == (before["p0"], before["p2"])
    assert after["p1"]["question"] == "TWO"
    assert rows(run, "superseded") == [before["p1"]]


def test_the_folder_of_another_config_is_refused_with_the_difference(job, copied, capsys):
    path, run = copied
    made = rows(run)
    assert job(path, "seed=1", "decoding.nabla.max_rollouts=3", "cluster.in_flight=7") == 2
    errors = capsys.readouterr().err
    assert "decoding.nabla.max_rollouts: 8 in the folder, 3 now" in errors
    assert "seed: 0 in the folder, 1 now" in errors
    assert "in_flight" not in errors
    assert rows(run) == made


@pytest.mark.parametrize("lm", ["scripted?fail=no weights here", "/no/such/model"])
def test_a_model_that_cannot_load_ends_the_run_at_once_with_its_own_error(
    job, prompts, tmp_path, capsys, lm
):
    started = time.monotonic()
    assert job(prompts("a", "b"), "reward.judge=embedded", lm=lm) == 2
    assert time.monotonic() - started < 60
    assert lm.rpartition("=")[2] in capsys.readouterr().err


def test_a_model_folder_without_a_tokenizer(job, prompts, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen2"}')
    asked = ["--dry-run", "reward.judge=embedded"]
    assert job(prompts("a"), *asked, lm=str(tmp_path / "model")) == 2
    errors = capsys.readouterr().err
    assert str(tmp_path / "model") in errors
    assert "tokenizer" in errors


def test_a_run_folder_that_cannot_be_written_ends_the_run(job, prompts, tmp_path, capsys):
    path = prompts("a")
    assert job(path, "run_dir=/proc/run") == 2
    assert "/proc/run" in capsys.readouterr().err


def test_a_dry_run_prints_the_plan_and_writes_nothing(job, prompts, tmp_path, capsys):
    assert job(prompts("first question", "b"), "samples_per_prompt=3", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "samples_per_prompt: 3" not in output
    assert "first question" in output
    assert "2 prompts x 3 samples = 6 rows; 0 finished and 0 dead" in output
    assert not (tmp_path / "run").exists()


def test_the_status_of_a_folder_that_is_no_run_folder_is_an_error(tmp_path, capsys):
    assert status.main([f"run_dir={tmp_path}"]) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_bad_input_is_exit_code_2(job, tmp_path, capsys):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt"\n')
    assert job(path) == 2
    assert f"{path}:2: malformed JSON" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["response", "revisions", "prompt_id"])
def test_a_bit_that_flips_in_a_final_file_is_noticed_and_its_rows_are_made_again(
    job, copied, capsys, column
):
    path, run = copied
    made = content(run)
    first = run / "data" / "train-00000-of-00002.parquet"
    group = pq.read_metadata(first).row_group(0)
    chunks = [group.column(n) for n in range(group.num_columns)]
    chunk = next(c for c in chunks if c.path_in_schema.startswith(column))
    data = bytearray(first.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    first.write_bytes(data)
    capsys.readouterr()
    assert job(path, "store.rows_per_file=2") == 0
    output = capsys.readouterr()
    assert "was already done" not in output.out
    reason = "its checksum is not the one in manifest.json"
    assert f"1 file was moved to quarantine/: 1 {reason}" in " ".join(output.err.split())
    assert content(run) == made
    (reason,) = (run / "quarantine").glob("*.txt")
    assert "its checksum is not the one in manifest.json" in reason.read_text()
    assert job(path, "store.rows_per_file=2") == 0
    assert "was already done" in capsys.readouterr().out


def test_a_finished_folder_without_its_manifest_gets_a_new_one(job, copied):
    path, run = copied
    made, manifest = rows(run), json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text("{")
    assert job(path, "store.rows_per_file=2") == 0
    assert rows(run) == made
    assert json.loads((run / "manifest.json").read_text()) == manifest


def test_an_actor_for_which_there_is_no_room_is_refused(job, prompts, capsys):
    """Ray would wait for ever for another machine to join."""
    assert job(prompts("one"), "cluster.gpus_per_actor=1") == 2
    assert "an actor (cluster) needs 1 GPU, and Ray has 0 here" in capsys.readouterr().err


def test_waiting_for_a_node_of_a_joined_cluster_is_noted(
    job, prompts, cluster, capsys, monkeypatch
):
    """An autoscaler may add a node, so the run waits. The test ends the wait."""
    note = Progress.note

    def interrupt_after(progress: Progress, text: str) -> None:
        note(progress, text)
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "note", interrupt_after)
    asked = [f"cluster.address={cluster}", "cluster.cpus_per_actor=3", "verify.method=none"]
    assert job(prompts("one"), *asked) == 130
    errors = capsys.readouterr().err
    assert "an actor needs 3 CPU and 0 GPU (cluster), which no node of the cluster has" in errors
