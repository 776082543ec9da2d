"""Counterfactuals, a guide trained on them, and a run with that guide, on a real Ray."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs import counterfactuals, train_guide
from nabla_core import Prompt, drive, load_engines, nabla
from nabla_core.config import DTO, Decoding, NablaConfig
from nabla_core.errors import ModelError
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.config import load
from pipeline.errors import RunError
from pipeline.generate.recipe import TraceRecipe
from pipeline.grading.graders import Verify
from pipeline.store.files import Folder
from pipeline.store.lease import holder
from pipeline.train_guide.checkpoints import load_checkpoint, save_checkpoint
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_guide.evaluation import calibration, measure
from pipeline.train_guide.folder import HISTORY, MODEL
from pipeline.train_guide.setup import setup, subsample
from pipeline.train_guide.training import train_step
from tests.jobs.test_generate import rows
from tests.pipeline.rows import keys

ROOT = Path(__file__).parents[2]
PROMPTS = [f"{n}+{n * 7 % 10}*3-{n % 4}" for n in range(16)]


def explore(path: Path, run: Path, *more: str) -> int:
    return counterfactuals.main(
        [
            f"run_dir={run}",
            f"prompts.path={path}",
            "cluster.in_flight=8",
            "explore.temperatures=[0,1]",
            "explore.positions=2",
            "explore.alternatives=4",
            "max_tokens=8",
            *more,
        ]
    )


def test_counterfactuals_are_made_exactly_once(cluster, prompts, tmp_path, capsys):
    path, run, log = prompts("one", "!raise", "three"), tmp_path / "run", tmp_path / "log"
    lm = f"lm.path=scripted?log={log}"
    assert explore(path, run, lm, "max_dead_fraction=0.5") == 3
    assert keys(run) == [("p0", 0), ("p0", 1), ("p2", 0), ("p2", 1)]
    assert keys(run, "dead_letter") == [("p1", 0), ("p1", 1)]
    made = rows(run)
    assert [row["temperature"] for row in made] == [0.0, 1.0, 0.0, 1.0]
    assert all(len(place["scores"]) == 3 for row in made for place in row["places"])
    assert {row["tokenizer_fingerprint"] for row in made} == {"1"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["places"], manifest["alternatives"]) == (8, 24)
    assert "2 ValueError" in capsys.readouterr().out
    before = log.read_text()
    assert explore(path, run, lm, "max_dead_fraction=0.5") == 3
    assert log.read_text() == before
    assert explore(path, run, lm, "explore.positions=3") == 2
    assert "explore.positions: 2 there, 3 here" in capsys.readouterr().err


def test_settings_that_contradict_each_other_are_named(capsys):
    assert counterfactuals.main(["explore.scorer=verifier"]) == 2
    assert "explore.scorer=verifier needs a verify.method" in capsys.readouterr().err
    assert counterfactuals.main(["explore.alternatives=1"]) == 2
    assert "alternatives must be at least 2" in capsys.readouterr().err
    assert train_guide.main(["run_dir=x"]) == 2
    assert "data" in capsys.readouterr().err
    for wrong, told in (
        ("validation.metric=accuracy", "validation.verify.method"),
        ("workers.cpus=0", "workers.cpus must be above 0"),
        ("workers.max_failures=-2", "workers.max_failures must be at least -1"),
        ("reward.guide=embedded", "start.path names the model it starts from"),
        ("validation.nabla.proposals=left_to_right", "a head has no gradient"),
        ("optimise.clip=0", "optimise.clip must be above 0"),
    ):
        assert train_guide.main(["data.counterfactuals=[x]", wrong]) == 2
        assert told in capsys.readouterr().err
    alone = [f"target.{name}=0" for name in ("within", "across", "scale")]
    assert train_guide.main(["data.counterfactuals=[x]", *alone, "target.score=1"]) == 2
    assert "target.score is of a guide's own reward" in capsys.readouterr().err
    assert train_guide.main(["data.traces=[x]", "target.mirror=1"]) == 2
    assert "target.mirror needs the LM's probabilities" in capsys.readouterr().err


@pytest.fixture(scope="module")
def explored(cluster, plain, tmp_path_factory) -> Path:
    """A run folder of counterfactuals of the plain family."""
    root = tmp_path_factory.mktemp("explored")
    path = root / "prompts.jsonl"
    asked = [{"id": f"q{n}", "prompt": text} for n, text in enumerate(PROMPTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in asked))
    models = [f"lm.path={plain.lm}", f"reward.judge={plain.judge}"]
    assert explore(path, root / "run", *models) == 0
    return root / "run"


def settings(plain, explored: Path, run: Path, *more: str) -> list[str]:
    asked = explored.parent / "prompts.jsonl"
    return [
        *(f"run_dir={run}", f"data.counterfactuals=[{explored}]", "data.held_out=0.3"),
        *(f"lm.path={plain.lm}", f"reward.judge={plain.judge}", f"start.path={plain.guide}"),
        *("kind=head", "optimise.steps=6", "optimise.batch=6", "optimise.warmup=2"),
        *(f"validation.prompts.path={asked}", "validation.prompts.split=null"),
        *("validation.prompts.limit=4", "validation.max_tokens=8", "validation.every=2"),
        *more,
    ]


def training_state(plain, explored: Path, *more: str):
    return setup(
        load(TrainGuideConfig, (), settings(plain, explored, Path("unused"), *more)), "cpu"
    )


@pytest.mark.timeout(600)
def test_two_workers_one_of_them_killed_learn_what_one_process_learns(
    plain, explored, tmp_path, cluster, capsys, monkeypatch
):
    run, token = tmp_path / "guide run", tmp_path / "token"
    start = shutil.copytree(plain.guide, tmp_path / "start")
    told = "{% for turn in messages %}{{ turn.content }}{% endfor %}"
    (start / "chat_template.jinja").write_text(told)
    more = Path("additional_chat_templates", "rag.jinja")
    (start / more).parent.mkdir()
    (start / more).write_text("{{ messages }}")
    alone = training_state(plain, explored, f"start.path={start}")
    lost = [train_step(alone) for _ in range(6)]
    token.touch()
    monkeypatch.setenv("NABLA_FAILPOINTS", f"guide step 2.|{token}")
    asked = settings(
        plain, explored, run, f"start.path={start}", "workers.count=2", "optimise.micro_batch=2"
    )
    assert train_guide.main(asked) == 0
    assert not token.exists()
    *lines, last = capsys.readouterr().out.splitlines()
    told = [line.split()[:3] for line in lines if line.startswith("step")]
    assert told == [["step", step, "loss"] for step in "246"]
    line = json.loads(last)
    card = json.loads((run / "guide" / "card.json").read_text())
    assert line["step"] == card["chosen_step"] in (2, 4, 6)
    history = json.loads((run / "history.json").read_text())["measurements"]
    assert [m["step"] for m in history] == [2, 4, 6]
    assert [m["loss"] for m in history] == pytest.approx(lost[1::2], rel=1e-3)
    factor = calibration(alone)
    assert history[-1]["calibration"] == pytest.approx(factor, rel=1e-2)
    last = max((run / "train").glob("checkpoint_*/state.pt"))
    state = torch.load(last, weights_only=True)
    assert state["step"] == 6
    learned = {n: p for n, p in alone.trainee.model.named_parameters() if p.requires_grad}
    assert state["trained"].keys() == learned.keys()
    for name, weight in learned.items():
        torch.testing.assert_close(state["trained"][name], weight, rtol=1e-3, atol=1e-4)
    assert card["lm"]["revision"] == rows(explored)[0]["generation_revision"]
    assert card["data"]["sources"][0]["rows"] == 32
    learned_from = {e.name for e in alone.train}
    assert card["data"]["counterfactuals"] == sum(
        len(place.tokens) - 1
        for r in alone.mixture.records
        if r.name in learned_from
        for place in r.places
    )
    best = max(m["selection_score"] for m in history)
    assert card["metrics"]["selection_score"] == best

    # The folder is a guide for any job, and the same command has nothing left to do.
    assert (run / "guide" / more).read_text() == "{{ messages }}"
    weights = load_file(run / "guide" / "model.safetensors")
    assert weights["lm_head.weight"].any()
    assert train_guide.main(asked) == 0
    assert "was already there" in capsys.readouterr().out
    models = LM(str(plain.lm)), Reward(str(plain.judge), guide=str(run / "guide"))
    flow = nabla(Prompt.of("1+2*3", id="p"), NablaConfig(proposals="ranked"), max_tokens=8)
    (trace,) = drive([flow], load_engines(*models, Runtime(device="cpu")))
    assert trace.revisions
    assert trace.cost.rm_backward == 0
    recipe = TraceRecipe(
        lm=models[0],
        reward=models[1],
        decoding=Decoding(nabla=NablaConfig(dto=DTO(optimizer="adam"))),
        runtime=Runtime(device="cpu"),
        verify=Verify(),
        seed=0,
        config_hash="x",
    )
    with pytest.raises(ModelError, match="is a head"):
        recipe.open()


def test_lora_goes_on_from_a_checkpoint_and_leaves_a_plain_model(plain, explored, tmp_path):
    asked = ["kind=gradient", "optimise.lora.rank=4", "optimise.steps=4"]
    alone = training_state(plain, explored, *asked)
    started = alone.trainee.model.score.weight.detach().clone()
    for _ in range(4):
        train_step(alone)
    first = training_state(plain, explored, *asked, f"run_dir={tmp_path}")
    for _ in range(2):
        train_step(first)
    save_checkpoint(first, 0.0, tmp_path / "at 2", {"judge_gradient": None})
    second = training_state(plain, explored, *asked, f"run_dir={tmp_path}")
    load_checkpoint(second, tmp_path / "at 2")
    for _ in range(2):
        train_step(second)
    save_checkpoint(second, 0.0, tmp_path / "at 4", {"judge_gradient": None})
    state = torch.load(tmp_path / "at 4" / "state.pt", weights_only=True)
    learned = {n: p for n, p in alone.trainee.model.named_parameters() if p.requires_grad}
    assert state["step"] == 4
    assert state["trained"].keys() == learned.keys()
    for name, weight in learned.items():
        torch.testing.assert_close(state["trained"][name], weight, rtol=1e-3, atol=1e-4)
    assert not torch.equal(learned["score.weight"], started)

    about = json.loads((tmp_path / HISTORY).read_text())["description"]
    assert about["weights"] == {
        "trained": sum(p.numel() for p in learned.values()),
        "method": "LoRA of rank 4, merged",
        "adapted_layers": 14,
    }
    made = tmp_path / "at 4" / MODEL
    weights = load_file(made / "model.safetensors")
    assert weights.keys() == plain.raw("guide").state_dict().keys()
    before = plain.raw("guide").state_dict()
    changed = {name for name in weights if not torch.equal(weights[name], before[name])}
    assert changed == {"score.weight", *(n for n in before if "_proj.weight" in n)}
    reward = Reward(str(plain.judge), guide=str(made), min_coverage=0.9)
    engines = load_engines(LM(str(plain.lm)), reward, Runtime(device="cpu"))
    flow = nabla(Prompt.of("1+2*3", id="p"), NablaConfig(proposals="ranked"), max_tokens=8)
    (trace,) = drive([flow], engines)
    assert trace.cost.rm_backward > 0


@pytest.mark.timeout(600)
def test_a_second_training_in_the_folder_is_refused_while_the_first_lives(
    plain, explored, tmp_path, capsys
):
    run = tmp_path / "run"
    asked = settings(plain, explored, run, "optimise.steps=100000", "validation.every=1")
    output = tmp_path / "output"
    here = os.path.relpath(run, explored.parent)
    relative = (f"run_dir={here}", f"data.counterfactuals=[{explored.name}]")
    with output.open("w") as sink:
        first = subprocess.Popen(
            [sys.executable, "-m", "jobs.train_guide", *asked, *relative],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=explored.parent,
        )
        try:
            while not (run / "history.json").exists():  # Ray Train is at work
                assert first.poll() is None, output.read_text()
                time.sleep(0.2)
            before = (run / "config.yaml").read_bytes()
            assert train_guide.main([*asked, "seed=1"]) == 2
            assert f"is held by process {first.pid} on " in capsys.readouterr().err
            assert (run / "config.yaml").read_bytes() == before
            assert first.poll() is None
            first.send_signal(signal.SIGINT)
            assert first.wait(timeout=60) == 130, output.read_text()
        finally:
            first.kill()
            first.wait()
    assert "the same command continues" in output.read_text()
    assert holder(Folder(str(run))) is None
    assert not (run / "guide").exists()


def test_validation_prompts_that_are_trained_on_are_counted(plain, explored):
    learning = training_state(plain, explored)
    taught = {example.prompt_id for example in learning.train}
    assert 0 < learning.validation_overlap == sum(f"q{n}" in taught for n in range(4))
    other = training_state(plain, explored, "validation.prompts.path=embedded", "data.held_out=0.5")
    assert other.validation_overlap == 0


def test_a_sample_is_drawn_from_all_and_keeps_the_order():
    assert subsample([3, 1, 2], 3, seed=0) == [3, 1, 2]
    drawn = subsample(range(100), 10, seed=0)
    assert drawn == sorted(set(drawn)) == subsample(range(100), 10, seed=0)
    assert len(drawn) == 10
    assert max(drawn) > 50
    assert drawn != subsample(range(100), 10, seed=1)


def test_another_start_and_other_data_than_the_checkpoints_are_refused(plain, explored, tmp_path):
    """Adapters belong to the weights they were learned on, and a batch's number to its data."""
    asked = ["optimise.lora.rank=4", f"run_dir={tmp_path}"]
    first = training_state(plain, explored, *asked)
    train_step(first)
    save_checkpoint(first, 0.0, tmp_path, {"judge_gradient": None})
    second = training_state(plain, explored, *asked)
    load_checkpoint(second, tmp_path)
    assert second.step == 1
    for changed, told in (
        (f"start.path={plain.judge}", r"start\.path .*guide: not what it was at step 1, "),
        ("data.limit=20", r"data: not what it was at step 1, "),
    ):
        with pytest.raises(RunError, match=told):
            load_checkpoint(training_state(plain, explored, *asked, changed), tmp_path)


def test_a_gradient_guide_learns_in_bfloat16_too(plain, explored):
    losses = {}
    for dtype in ("float32", "bfloat16"):
        learning = training_state(plain, explored, "kind=gradient", f"optimise.dtype={dtype}")
        losses[dtype] = [train_step(learning) for _ in range(3)]
        assert learning.trainee.model.dtype == torch.float32
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]
    found = measure(learning)
    assert found["accuracy"] is None
    assert found["selection_score"] == found["reward"]


def test_a_gradient_that_is_not_finite_stops_or_skips_and_names_its_responses(plain, explored):
    learning = training_state(plain, explored, "kind=gradient")
    with torch.no_grad():
        learning.trainee.model.score.weight[0, 0] = float("nan")
    with pytest.raises(RunError, match=r"step 1: .* not finite; responses: q\d+#\d, .*skip"):
        train_step(learning)
    skipping = training_state(plain, explored, "kind=gradient", "optimise.on_nonfinite=skip")
    kept = skipping.trainee.model.score.weight.clone()
    skipping.trainee.model.score.weight.data[0, 0] = float("inf")
    train_step(skipping)
    assert torch.equal(skipping.trainee.model.score.weight[0, 1:], kept[0, 1:])
    assert len(skipping.skipped) == 1
    assert "q" in skipping.skipped[0]


@pytest.mark.timeout(600)
def test_another_lms_counterfactuals_end_the_job(
    plain, grouped, explored, tmp_path, cluster, capsys
):
    with pytest.raises(ModelError, match="no such folder"):
        training_state(plain, explored, f"lm.path={plain.judge.parent / 'other'}")
    others = [
        *(f"lm.path={grouped.lm}", f"reward.judge={grouped.judge}"),
        *(f"start.path={grouped.guide}", "reward.min_coverage=0.9"),
    ]
    # Of two workers either may find it first; neither is left waiting for the other.
    asked = settings(plain, explored, tmp_path / "run", *others, "workers.count=2")
    assert train_guide.main(asked) == 2
    assert "made with another LM or tokenizer" in capsys.readouterr().err


def test_workers_for_which_there_is_no_room_are_refused(plain, explored, tmp_path, capsys):
    """Ray Train would wait for another machine to join, without end."""
    assert train_guide.main(settings(plain, explored, tmp_path / "run", "workers.gpu=true")) == 2
    assert "needs 1 GPU, and Ray has 0 here" in capsys.readouterr().err
    assert train_guide.main(settings(plain, explored, tmp_path / "run", "workers.count=3")) == 2
    assert "needs 3 CPU, and Ray has 2 here" in capsys.readouterr().err


def test_folders_without_data_are_refused_before_anything_starts(plain, explored, tmp_path, capsys):
    for wrong, told in (
        (f"data.counterfactuals=[{tmp_path}]", "is no finished run folder of counterfactuals"),
        (f"data.traces=[{explored}]", "holds counterfactuals/2, not traces"),
    ):
        assert train_guide.main(settings(plain, explored, tmp_path / "run", wrong)) == 2
        assert told in capsys.readouterr().err
    missing = f"validation.prompts.path={tmp_path}/none.jsonl"
    assert train_guide.main(settings(plain, explored, tmp_path / "run", missing)) == 2
    assert "none.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "run" / "train").exists()
