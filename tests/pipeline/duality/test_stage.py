"""The job: exit codes, the report, what is kept, bad input."""

import json
import math

import pyarrow.parquet as pq
import pytest

from jobs import duality
from pipeline.config import load
from pipeline.duality.config import DualityConfig
from pipeline.duality.continuous import checks as continuous
from pipeline.duality.continuous import particles
from pipeline.duality.findings import SCHEMA, PartResults, SeedMean, failed_self_checks
from pipeline.duality.report.claims import judge_claims

QUICK = (
    *("parts=[continuous]", "seeds=[0]", "continuous.particles=10000", "continuous.step_size=0.01"),
    *("continuous.cells=300", "continuous.cells_2d=40", "continuous.quantiles=[20,40]"),
    *("continuous.rate_particles=32000", "processes=1"),
)


def test_a_sound_stage_exits_0_and_leaves_a_report(tmp_path, capsys):
    assert duality.main([f"run_dir={tmp_path}", *QUICK]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["sound"] is True
    table = pq.read_table(tmp_path / "results.parquet")
    assert table.schema.names == SCHEMA.names
    assert table.num_rows == line["findings"] > 40
    assert set(table["kind"].to_pylist()) == {"positive", "control", "report"}
    text = (tmp_path / "report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    for words in ("The instruments are sound", "What the paper claims", "Noisy descent"):
        assert words in text
        assert words in page
    assert (
        page.count("data:image/png;base64,") == len(list((tmp_path / "plots").glob("*.png"))) == 3
    )
    # The claim as the paper uses it: no noise, the law is another one.
    verdicts = {text: verdict for text, (verdict, _) in line["claims"].items()}
    assert (
        verdicts["Noisy descent on samples carries the law exactly as the KL-RL policy flows (1-D)"]
        == "holds"
    )
    assert next(v for t, v in verdicts.items() if t.startswith("Descent without noise")) == "fails"

    assert duality.main([f"run_dir={tmp_path}", *QUICK]) == 0
    assert capsys.readouterr().out.count("reused from an earlier run") == 2
    # At this size a control of the other beta may go undetected; its pieces are new all the same.
    assert duality.main([f"run_dir={tmp_path}", *QUICK, "continuous.beta=0.4"]) in (0, 4)
    assert "reused from an earlier run" not in capsys.readouterr().out


def test_a_broken_sampler_exits_4_and_says_which_check(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(continuous, "LANGEVIN", particles.Dynamics(noise=0.0))
    assert duality.main([f"run_dir={tmp_path}", *QUICK]) == 4
    out = capsys.readouterr().out
    assert "broken: continuous: 1-D law of samples" in out
    assert json.loads(out.splitlines()[-1])["sound"] is False
    assert "The instruments are broken" in (tmp_path / "report.md").read_text()


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
        ("checkpoints.betas=[0]", "policy.betas must be positive"),
        ("parts=[checkpoints]", "checkpoints.reference.path"),
        ("tokens.rl_stepps=3", "rl_stepps"),
        ("run_dir=nowhere://runs", "cannot open run folder nowhere://runs"),
        ("run_dir=/dev/null/runs", "run folder /dev/null/runs: [Errno 20] Not a directory"),
    ],
)
def test_bad_settings_exit_2_and_are_named(tmp_path, capsys, given, complaint):
    assert duality.main([f"run_dir={tmp_path}", given]) == 2
    assert complaint in capsys.readouterr().err


def test_the_config_file_is_the_default():
    assert load(DualityConfig, ["configs/duality.yaml"]) == DualityConfig()


def test_verdicts_and_soundness():
    results = PartResults("tokens")
    results.positive("c", "fine", 0, 0.1, 0.2)
    results.positive("c", "not a number", 0, math.nan, 0.2)
    results.positive("c", "too large", 0, 0.3, 0.2)
    results.control("c", "caught", 0, 0.3, 0.2)
    results.control("c", "missed", 0, 0.1, 0.2)
    results.control("c", "no number", 0, math.nan, 0.2)
    results.report("c", "free", 0, 9.0, 0.2)
    results.not_estimable("c", "few", 0, 12.0, 300.0)
    assert [f.arm for f in failed_self_checks(results.findings)] == [
        "not a number",
        "too large",
        "missed",
        "no number",
    ]
    assert [f.verdict for f in results.findings[-2:]] == ["fails", "not estimable"]


def test_spread_over_seeds():
    found = SeedMean.of([1.0, 2.0, 3.0])
    assert (found.mean, found.seeds) == (2.0, 3)
    assert found.half_width == pytest.approx(4.303 / math.sqrt(3))
    assert SeedMean.of([5.0]).half_width == 0


def test_a_claim_is_decided_by_its_findings_and_no_others():
    results = PartResults("tokens")
    check = "TV to pi* at the fitted beta"
    for seed, value in enumerate((0.05, 0.3)):
        results.report(check, "DTO lr .1, 200 steps, lambda 1", seed, value, 0.1)
    results.report("gap to the frontier", "best of 4", 0, 0.01, 0.03)
    told = {t.claim.text: t for t in judge_claims(results.findings)}
    descent = next(t for text, t in told.items() if text.startswith("DTO with larger steps"))
    assert (descent.verdict, descent.threshold) == ("fails", "0.1")
    assert "(at most 0.3)" in descent.number
    assert told["Best of N lies on the frontier (gap)"].verdict == "holds"
    assert not any(text.startswith("Nabla decoding") for text in told)


def test_what_is_only_reported_decides_no_claim_that_has_checks():
    results = PartResults("language")
    check = "E[r] against importance sampling, standard errors apart"
    results.positive(check, "method mh, beta 4", 0, 1.0, 4.0)
    results.report(check, "method mh, beta 1", 0, 9.0, 4.0)
    results.control(check, "reference LM taken for pi*, beta 4", 0, 8.0, 4.0)
    (told,) = judge_claims(results.findings)
    assert (told.verdict, told.number) == ("holds", "1")
    assert told.control == "reference LM taken for pi*, beta 4: 8"
