"""Rounds of search and training on a real Ray."""

import json

import pytest
import yaml

from jobs import improve
from nabla_core.models.identity import identify
from nabla_core.types import Identity
from pipeline.config import load, overrides_yaml
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig
from pipeline.improve.job import chosen_settings
from pipeline.improve.rounds import choose
from tests.jobs.test_generate import rows
from tests.pipeline.improve.test_rounds import round_


@pytest.mark.parametrize("method", ["nabla", "guided"])
def test_the_judge_is_chosen_as_no_guide_at_all(method, tmp_path):
    """Also where the files before name a guide, and a method that cannot do without one."""
    chosen, way = tmp_path / "chosen.yaml", "decoding" if method == "nabla" else "greedy"
    best = choose([round_(0, 0.5, lm="embedded", judge="embedded", way=way)])
    settings = ["reward.guide=embedded-head", f"decoding.method={method}"]
    chosen.write_text(overrides_yaml(chosen_settings(load(ImproveConfig, (), settings), best)))
    with_head = load(GenerateConfig, ["configs/embedded.yaml"])
    assert with_head.reward.guide == "embedded-head"
    found = load(GenerateConfig, ["configs/embedded.yaml", str(chosen)])
    assert found.reward.guide is None
    assert found.decoding.method == ("nabla" if method == "nabla" else "greedy")


def guides_of(traces):
    return {Identity(row["guide_model"], row["guide_revision"]) for row in traces}


@pytest.mark.timeout(600)
def test_a_round_learns_from_new_prompts_and_resumes(cluster, plain, tmp_path, capsys):
    path = tmp_path / "prompts.jsonl"
    asked = [
        {"id": f"q{n}", "prompt": f"{n}+{n * 7 % 10}*3", "answer": str(n % 3)} for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in asked))
    run = tmp_path / "run"
    given = [
        *(f"run_dir={run}", "rounds=1", f"lm.path={plain.lm}", f"reward.judge={plain.judge}"),
        *(f"prompts.path={path}", "prompts.limit=5", "prompts.split=null"),
        *(
            f"eval_prompts.path={path}",
            "eval_prompts.skip=5",
            "eval_prompts.limit=4",
            "eval_prompts.split=null",
        ),
        *("verify.method=last_number", "decoding.max_tokens=8", "cluster.in_flight=8"),
        *("decoding.nabla.proposals=ranked", "explore.temperatures=[1]"),
        *("explore.positions=2", "explore.alternatives=4"),
        *("training.kind=head", "training.held_out=0.3", "training.validation.every=2"),
        *("training.optimise.steps=2", "training.optimise.batch=4"),
        *(f"training.validation.prompts.path={path}", "training.validation.prompts.limit=3"),
        *("training.validation.prompts.split=null", "training.validation.prompts.skip=9"),
        "training.validation.max_tokens=8",
    ]
    for wrong, message in (
        ("rounds=3", "prompts: 3 rounds of 5 need 15, and"),
        (
            "eval_prompts.skip=4",
            "eval_prompts: 1 of its prompts are used elsewhere too, eval_prompts (q4) as",
        ),
        (
            "training.validation.prompts.skip=8",
            "training.validation.prompts (q8) as eval_prompts (q8)",
        ),
    ):
        assert improve.main([*given, wrong]) == 2
        assert message in capsys.readouterr().err
    assert not run.exists()
    assert improve.main(given) in (0, 3)
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    first, second = line["rounds"]
    assert first["guide"] is None
    assert first["top1"] is not None
    assert second["counterfactuals"] > 0
    guide = run / "round-1" / "guide" / "guide"
    assert second["guide"] == str(guide)
    for what in ("traces", "counterfactuals"):
        used = {row["prompt_id"] for row in rows(run / "round-1" / what)}
        assert used == {f"q{n}" for n in range(5)}
    measured = rows(run / "round-1" / "eval")
    assert {row["prompt_id"] for row in measured} == {f"q{n}" for n in range(5, 9)}
    assert guides_of(measured) == {identify(str(guide), None)}
    assert guides_of(rows(run / "round-1" / "traces")) == {identify(str(plain.judge), None)}
    assert second["reward"] == pytest.approx(sum(row["reward"] for row in measured) / 4)
    card = json.loads((guide / "card.json").read_text())
    assert [s["kind"] for s in card["data"]["sources"]] == ["counterfactuals", "traces"]
    alone = rows(run / "round-0" / "eval-greedy")
    assert first["greedy"]["reward"] == pytest.approx(sum(row["reward"] for row in alone) / 4)
    assert second["greedy"] == first["greedy"]
    assert second["used"]["guide"]["reason"].startswith("accuracy is ")
    assert second["yields"]["search"]["hard"] == len(
        [row for row in rows(run / "round-1" / "traces") if not row["base_correct"]]
    )
    chosen = yaml.safe_load((run / "chosen.yaml").read_text())
    best = line["rounds"][line["chosen"]]
    assert chosen["lm"]["path"] == str(plain.lm)
    assert (chosen["reward"]["judge"], chosen["reward"]["guide"]) == (
        str(plain.judge),
        best["guide"],
    )
    assert chosen["decoding"]["method"] == ("greedy" if best["way"] == "greedy" else "nabla")

    before = {p: p.stat().st_mtime_ns for p in run.glob("round-*/*/data/*")}
    assert improve.main(given) in (0, 3)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == line
    assert {p: p.stat().st_mtime_ns for p in run.glob("round-*/*/data/*")} == before
    assert improve.main([*given, "decoding.max_tokens=9"]) == 2
    assert "decoding.max_tokens: 8 in the folder, 9 now" in capsys.readouterr().err


def test_settings_that_make_no_sense_are_refused(capsys):
    for wrong, message in (
        ("rounds=0", "rounds must be at least 1"),
        ("prompts.limit=null", "prompts.limit must say"),
        ("run_dir=s3://bucket/run", "a folder that every node sees"),
        ("decoding.method=greedy", "uses no guide"),
        ("training.target.value=soft", "a revision of a trace has one"),
        ("training.kind=value_head", "training.start.path: a value head is on the LM"),
        ("steps=[search,samples]", "trains nothing; add one of distill, judge, guide"),
        ("steps=[search,distill]", "a model would be trained on answers; set answers=final"),
        ("decoding.nabla.proposals=left_to_right", "a head has no gradient"),
        ("training.workers.address=here:1", "cluster.address names the Ray to join"),
        ("distill.workers.address=here:1", "distill.workers.address: cluster.address names"),
        ("training.validation.prompts.path=none.jsonl", "none.jsonl"),
    ):
        assert improve.main(["lm.path=embedded", wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_round_with_all_steps_trains_an_lm_that_the_next_steps_use(cluster, tmp_path, capsys):
    run = tmp_path / "run"
    given = [
        *("--config", "configs/improve_embedded.yaml", f"run_dir={run}", "rounds=1"),
        *("prompts.limit=24", "eval_prompts.limit=12", "training.validation.prompts.limit=12"),
        *("samples.count=2", "distill.optimise.steps=4", "distill.every=4"),
        *("explore.temperatures=[0]", "training.optimise.steps=4", "training.validation.every=4"),
        *("judge.count=2", "judge.samples=2", "judge.optimise.steps=4", "judge.every=4"),
    ]
    assert improve.main(given) in (0, 3)
    shown = capsys.readouterr().out
    line = json.loads(shown.splitlines()[-1])
    first, second = line["rounds"]
    student = run / "round-1" / "student" / "student"
    card = json.loads((student / "card.json").read_text())
    assert second["distilled"] == card["data"]["rows"] > 0
    right = [r for step in ("traces", "samples") for r in rows(run / "round-1" / step)]
    # Only verified traces are trained on.
    assert card["data"]["rows"] <= len([row for row in right if row["correct"]])
    explored = rows(run / "round-1" / "counterfactuals")
    assert {row["generation_revision"] for row in explored} == (
        {identify(str(student), None).revision}
        if second["used"]["lm"]["used"]
        else {row["generation_revision"] for row in right}
    )
    judged = json.loads((run / "round-1" / "judge" / "judge" / "card.json").read_text())
    assert second["used"]["judge"]["used"] == (second["judge"] != first["judge"])
    assert judged["chosen_by"] == "accuracy"
    assert set(second["yields"]) == {"search", "samples"}
    assert second["yields"]["search"]["plain_samples"] == 2
    assert "pass@2" in shown
    chosen = tmp_path / "run" / "chosen.yaml"
    config = load(GenerateConfig, ["configs/embedded.yaml", str(chosen)])
    assert config.lm.path == line["rounds"][line["chosen"]]["lm"]

    assert improve.main(given) in (0, 3)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == line
