"""The job: exit codes, the report, cached pieces, bad input."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from jobs import duality
from nabla_core.embedded.weights import folder as shipped
from pipeline.config import load
from pipeline.duality import stage
from pipeline.duality.config import DualityConfig
from pipeline.duality.continuous import checks as continuous
from pipeline.duality.continuous import particles
from pipeline.duality.findings import SCHEMA
from pipeline.store.files import Folder
from pipeline.training.progress import read_progress

QUICK = (
    *("parts=[continuous]", "seeds=[0]", "continuous.particles=10000", "continuous.step_size=0.01"),
    *("continuous.cells=300", "continuous.cells_2d=40", "continuous.quantiles=[20,40]"),
    *("continuous.rate_particles=32000", "processes=1"),
)


def test_a_sound_stage_exits_0_and_leaves_a_report(tmp_path, capsys):
    assert duality.main([f"run_dir={tmp_path}", *QUICK]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["self_checks_passed"] is True
    table = pq.read_table(tmp_path / "results.parquet")
    assert table.schema.names == SCHEMA.names
    assert table.num_rows == line["findings"] > 40
    assert set(table["kind"].to_pylist()) == {"positive", "control", "report"}
    text = (tmp_path / "report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    for words in ("All self-checks pass", "What the paper claims", "Gradient descent on samples"):
        assert words in text
        assert words in page
    assert (
        page.count("data:image/png;base64,") == len(list((tmp_path / "plots").glob("*.png"))) == 3
    )
    # The claim as the paper uses it: no noise, the law is another one.
    verdicts = {text: verdict for text, (verdict, _) in line["claims"].items()}
    with_noise = "Gradient descent on samples with the right noise"
    without_noise = "Gradient descent on samples without noise"
    assert next(v for t, v in verdicts.items() if t.startswith(with_noise)) == "holds"
    assert next(v for t, v in verdicts.items() if t.startswith(without_noise)) == "fails"

    assert duality.main([f"run_dir={tmp_path}", *QUICK]) == 0
    assert capsys.readouterr().out.count("reused from an earlier run") == 2
    progress = read_progress(Folder(str(tmp_path)))
    assert (progress.step, progress.steps) == (2, 2)
    # At this size a control of the other beta may go undetected; its pieces are new all the same.
    assert duality.main([f"run_dir={tmp_path}", *QUICK, "continuous.beta=0.4"]) in (0, 4)
    assert "reused from an earlier run" not in capsys.readouterr().out


def test_a_broken_sampler_exits_4_and_says_which_check(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(continuous, "LANGEVIN", particles.Dynamics(noise=0.0))
    assert duality.main([f"run_dir={tmp_path}", *QUICK]) == 4
    out = capsys.readouterr().out
    assert "self-check failed: continuous: 1-D law of samples" in out
    assert json.loads(out.splitlines()[-1])["self_checks_passed"] is False
    assert "Self-checks fail" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("parts=[continuos]", "parts: continuos; known: continuous, tokens, language, checkpoints"),
        ("parts=[]", "parts: none"),
        ("seeds=[]", "seeds: at least one"),
        ("seeds=[1,1]", "seeds: [1, 1] has one twice"),
        ("processes=0", "processes must be at least 1, got 0"),
        ("continuous.beta=0", "continuous.beta must be positive, got 0"),
        ("tokens.betas=[1,-1]", "tokens.betas must be positive"),
        ("tokens.betas=[1]", "tokens.betas must be positive, two at least"),
        ("language.betas=[]", "language.betas must be positive, two at least"),
        ("checkpoints.betas=[0]", "checkpoints.betas must be positive"),
        ("parts=[checkpoints]", "checkpoints.reference.path"),
        ("tokens.rl_stepps=3", "rl_stepps"),
        ("run_dir=nowhere://runs", "cannot open run folder nowhere://runs"),
        ("run_dir=/dev/null/runs", "run folder /dev/null/runs: [Errno 20] Not a directory"),
    ],
)
def test_bad_settings_exit_2_and_are_named(tmp_path, capsys, given, complaint):
    assert duality.main([f"run_dir={tmp_path}", given]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("role", ["lm", "judge", "guide"])
def test_a_piece_of_part_language_depends_on_the_weights_of_the_models(tmp_path, monkeypatch, role):
    config = DualityConfig()

    def inputs():
        """Those of the RL policies, and of what is measured with them."""
        return [
            {repr(piece.inputs) for piece in pieces}
            for pieces in (stage.training_pieces(config), stage.language_pieces(config, []))
        ]

    # The same bytes elsewhere: only the names differ.
    for name in ("lm", "judge", "guide"):
        shutil.copytree(shipped(name), tmp_path / name)
    monkeypatch.setattr(stage, "shipped", tmp_path.joinpath)
    before = inputs()
    weights = tmp_path / role / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    policies, measured = (now != then for now, then in zip(inputs(), before, strict=True))
    assert policies == (role != "guide")
    assert measured


def test_the_config_file_is_the_default():
    assert load(DualityConfig, ["configs/duality.yaml"]) == DualityConfig()
