"""The loop of rounds: what each step runs with, what is used of what it trained, and when rounds
end.

The steps are replaced, because no real search can be steered to hack its reward. The same loop with
real steps on Ray: tests/jobs/test_improve.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipeline.config import load
from pipeline.errors import RunError
from pipeline.improve import job, runner
from pipeline.improve.config import ImproveConfig
from pipeline.improve.job import ImproveResult, improve
from pipeline.improve.runner import Observer
from pipeline.improve.yielded import Yielded
from pipeline.run.plan import RunOutcome

DONE = RunOutcome(finished=4, dead=0, total=4, totals={})
HELPS = (9.0, 1.0)
ALONE = (0.0, 0.5)


class Steps:
    """Pretends the steps of rounds, on four prompts.

    `results` are (reward, correct) of all prompts by the end of a run folder's name; the LM alone
    is at `ALONE`, the search with judge and guide at `HELPS` where it is not told.
    """

    def __init__(self, results: Mapping[str, tuple[float, float]]) -> None:
        self.results = results
        self.ran: list[tuple[str, str, str | None]] = []
        self.settings: dict[str, Any] = {}
        self.outcome = DONE

    def run(self, config: Any, watcher: Any) -> RunOutcome:
        self._note(config, config.lm.path, config.reward.guide)
        return self.outcome

    def train(self, config: Any, on_measurement: Any) -> Any:
        self._note(config, config.lm.path, config.start.path)
        card = {"metrics": {"top1": 0.5}, "judge_gradient": {"top1": 0.1}}
        return SimpleNamespace(card=card | {"data": {"counterfactuals": 7}})

    def distill(self, config: Any, on_measurement: Any, on_progress: Any) -> Any:
        self._note(config, config.student.path, None)
        return SimpleNamespace(card={"data": {"rows": 3}})

    def judge(self, config: Any, on_measurement: Any) -> None:
        self._note(config, config.lm.path, config.reward.judge)
        self.judged = config

    def rows(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        run_dir = self._reading.run_dir
        name = "/".join(run_dir.split("/")[-2:])
        default = ALONE if "greedy" in name else HELPS
        reward, correct = self.results.get(name, default)
        cost = {"paper_calls": 17 if "greedy" in name else 55, "flops": 8e6}
        if name.endswith("samples"):
            cost["flops"] = 1e6
        row = {"reward": reward, "error": None, "cost": cost}
        yield pa.Table.from_pylist(
            [
                # Of a share that is correct, the first prompts are; the first search is half right.
                {"prompt_id": f"p{n}", "correct": n < 4 * correct, "base_correct": n < 2, **row}
                for n in range(4)
                for _ in range(self._reading.samples_per_prompt)
            ]
        )

    def open(self, config: Any) -> Steps:
        self._reading = config
        return self

    def _note(self, config: Any, lm: str, guide: str | None) -> None:
        self.ran.append((config.run_dir, lm, guide))
        self.settings[config.run_dir] = config


def run_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps, *overrides: str
) -> ImproveResult:
    monkeypatch.setattr(runner, "generate", steps.run)
    monkeypatch.setattr(runner, "counterfactuals", steps.run)
    monkeypatch.setattr(runner, "train_guide", steps.train)
    monkeypatch.setattr(runner, "distill", steps.distill)
    monkeypatch.setattr(runner, "train_judge", steps.judge)
    monkeypatch.setattr(runner, "generate_plan", lambda config: config)
    monkeypatch.setattr(runner, "open_store", steps.open)
    monkeypatch.setattr(job, "shared", lambda *_: nullcontext())
    sizes = ("prompts.limit=5", "eval_prompts.limit=4", "training.validation.prompts.limit=4")
    given = (f"run_dir={tmp_path / 'run'}", "rounds=2", *sizes, *overrides)
    config = load(ImproveConfig, (), given)
    return improve(
        config,
        Observer(
            watch=lambda name: nullcontext(),
            on_guide=lambda m: None,
            on_student=lambda m: None,
            on_judge=lambda m: None,
        ),
    )


def short(steps: Steps, tmp_path: Path) -> list[tuple[str, str, str | None]]:
    """What ran, with paths below the run folder."""

    def name(path: str | None) -> str | None:
        return None if path is None else path.removeprefix(f"{tmp_path / 'run'}/")

    return [(name(run_dir) or "", name(lm) or "", name(guide)) for run_dir, lm, guide in steps.ran]


FIRST, SECOND = "round-1/guide/guide", "round-2/guide/guide"


def test_each_round_goes_on_with_the_guide_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = {"round-0/eval": (1.0, 0.0), "round-1/eval": (2.0, 1.0), "round-2/eval": (3.0, 1.0)}
    steps = Steps(results)
    improved = run_rounds(tmp_path, monkeypatch, steps)
    lm = "embedded"
    assert short(steps, tmp_path) == [
        ("round-0/eval-greedy", lm, None),
        ("round-0/eval", lm, None),
        ("round-1/traces", lm, None),
        ("round-1/counterfactuals", lm, None),
        ("round-1/guide", lm, "judge"),
        ("round-0/validation-greedy", lm, None),
        ("round-1/validation-search", lm, FIRST),
        ("round-1/eval", lm, FIRST),
        ("round-2/traces", lm, FIRST),
        ("round-2/counterfactuals", lm, FIRST),
        ("round-2/guide", lm, FIRST),
        ("round-2/validation-search", lm, SECOND),
        ("round-2/eval", lm, SECOND),
    ]
    assert improved.stop_reason == "completed"
    assert [r.top1 for r in improved.rounds] == [0.1, 0.5, 0.5]
    assert [r.counterfactuals for r in improved.rounds] == [0, 7, 7]
    run = str(tmp_path / "run")
    assert steps.settings[f"{run}/round-2/guide"].data.counterfactuals == (
        f"{run}/round-1/counterfactuals",
        f"{run}/round-2/counterfactuals",
    )
    figures = json.loads((tmp_path / "run" / "rounds.json").read_text())
    assert figures["rounds"][1]["accuracy_gain"] == [1.0, 1.0, 1.0]
    # The rounds are equally accurate and take as many calls: the first one is chosen.
    assert figures["chosen"] == improved.chosen.number == 1
    assert yaml.safe_load((tmp_path / "run" / "chosen.yaml").read_text()) == {
        "lm": {"path": "embedded"},
        "reward": {"judge": "embedded", "guide": f"{run}/{FIRST}"},
        "decoding": {"method": "nabla"},
    }


ALL = ("steps=[search,samples,distill,counterfactuals,guide]", "answers=final")


def test_an_lm_is_trained_on_the_traces_of_the_round_and_everything_after_it_has_the_new_lm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = Steps({"round-1/validation-greedy": (0.0, 0.75), "round-1/samples": (0.0, 0.5)})
    improved = run_rounds(tmp_path, monkeypatch, steps, *ALL, "reward.guide=embedded-head")
    old, student = "embedded", "round-1/student/student"
    head = short(steps, tmp_path)[8][2]
    assert head is not None
    assert head.endswith("weights/head")
    assert short(steps, tmp_path)[:12] == [
        ("round-0/eval-greedy", old, None),
        ("round-0/eval", old, "embedded-head"),
        ("round-1/traces", old, "embedded-head"),
        ("round-1/samples", old, None),
        ("round-1/student", old, None),
        ("round-1/validation-greedy", student, None),
        ("round-0/validation-greedy", old, None),
        ("round-1/counterfactuals", student, "embedded-head"),
        ("round-1/guide", student, head),
        ("round-1/validation-search", student, FIRST),
        ("round-1/eval-greedy", student, None),
        ("round-1/eval", student, FIRST),
    ]
    run = str(tmp_path / "run")
    second = steps.settings[f"{run}/round-2/student"]
    assert second.student.path == f"{run}/{student}"
    assert second.export.filters.verified
    assert second.export.run_dir == tuple(
        f"{run}/round-{n}/{step}" for n in (1, 2) for step in ("traces", "samples")
    )
    # Counterfactuals of another LM are no data of a guide.
    assert steps.settings[f"{run}/round-2/guide"].data.counterfactuals == (
        f"{run}/round-2/counterfactuals",
    )
    assert improved.rounds[1].distilled == 3
    assert improved.rounds[0].top1 is None
    assert {name: use.used for name, use in improved.rounds[1].used.items()} == {
        "lm": True,
        "guide": True,
    }
    # Every prompt of the search is right, and every greedy answer to the last two was wrong. Eight
    # samples cost as much as a search of 8 MFLOP.
    assert improved.rounds[1].yields["search"] == Yielded(
        right=1.0,
        hard=2,
        right_on_hard=1.0,
        mflop=8.0,
        right_per_gflop=125.0,
        plain_samples=8,
        plain_right=0.5,
        plain_right_on_hard=0.0,
        plain_mflop=8.0,
    )


def test_an_lm_that_is_worse_on_validation_prompts_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = Steps({"round-1/validation-greedy": (0.0, 0.0), "round-0/validation-greedy": (0.0, 1)})
    improved = run_rounds(tmp_path, monkeypatch, steps, *ALL, "rounds=1")
    use = improved.rounds[1].used["lm"]
    assert not use.used
    assert use.reason == "accuracy is below that of the LM before: -1.000 [-1.000, -1.000]"
    assert ("round-1/counterfactuals", "embedded", None) in short(steps, tmp_path)
    assert improved.rounds[1].lm == "embedded"


def test_a_guide_that_makes_its_lm_worse_is_not_used_and_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = {"round-0/validation-greedy": (0.0, 1.0), "round-2/validation-search": (9.0, 0.0)}
    steps = Steps(results)
    improved = run_rounds(tmp_path, monkeypatch, steps, "rounds=3")
    assert [r.used["guide"].used for r in improved.rounds[1:]] == [True, False, True]
    assert [r.way for r in improved.rounds] == ["decoding", "greedy", "greedy", "greedy"]
    ran = short(steps, tmp_path)
    assert ("round-2/validation-search-before", "embedded", FIRST) in ran
    assert ("round-3/traces", "embedded", FIRST) in ran
    assert ("round-3/guide", "embedded", FIRST) in ran
    figures = json.loads((tmp_path / "run" / "rounds.json").read_text())
    assert figures["rounds"][2]["used"]["guide"] == {
        "used": False,
        "reason": "accuracy is below that of the LM alone: -1.000 [-1.000, -1.000]",
        "gain": [-1.0, -1.0, -1.0],
    }


def test_where_no_guide_is_of_use_the_lm_is_chosen_alone_and_searches_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    worse = {f"round-1/validation-search{end}": (9.0, 0.0) for end in ("", "-before")}
    worse |= {f"round-{n}/validation-greedy": (0.0, 1.0) for n in range(3)}
    steps = Steps({**worse, "round-1/eval": (9.0, 0.25), "round-0/eval": (9.0, 0.25)})
    improved = run_rounds(tmp_path, monkeypatch, steps, *ALL, "reward.guide=embedded-head")
    assert improved.rounds[1].way == "greedy"
    ran = [name for name, _, _ in short(steps, tmp_path)]
    assert "round-2/traces" not in ran
    assert "round-2/samples" in ran
    # Nobody knows which prompts are hard: there is no greedy response in a search.
    assert "round-2/greedy" in ran
    start = next(guide for name, _, guide in short(steps, tmp_path) if name == "round-2/guide")
    assert start == "judge"
    only_search = ("steps=[search,distill]", "answers=final")
    steps = Steps({**worse, "round-1/eval": (9.0, 0.25), "round-0/eval": (9.0, 0.25)})
    improved = run_rounds(tmp_path / "b", monkeypatch, steps, *only_search)
    assert improved.stop_reason == "nothing_of_use"
    assert len(improved.rounds) == 2
    chosen = yaml.safe_load((tmp_path / "b" / "run" / "chosen.yaml").read_text())
    assert chosen["decoding"] == {"method": "greedy"}


JUDGED = ("steps=[search,samples,distill,judge,counterfactuals,guide]", "answers=final")


def test_a_judge_learns_what_the_new_lm_gets_right_and_wrong_and_scores_all_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = Steps({})
    more = ("judge.temperatures=[0.5,1]", "reward.guide=embedded-head", "rounds=1")
    improved = run_rounds(tmp_path, monkeypatch, steps, *JUDGED, *more)
    run, student = f"{tmp_path}/run", "round-1/student/student"
    judge = f"{run}/round-1/judge/judge"
    trained = steps.settings[f"{run}/round-1/judge"]
    assert trained.data.runs == tuple(
        f"{run}/round-1/answers-{name}" for name in ("0.5", "1", "decoded")
    )
    assert (trained.lm.path, trained.reward.judge) == (f"{run}/{student}", "embedded")
    assert steps.settings[f"{run}/round-1/answers-decoded"].decoding.method == "nabla"
    gate = steps.settings[f"{run}/round-1/validation-judge"]
    assert (gate.reward.judge, gate.reward.guide) == (judge, None)
    assert gate.decoding.nabla.ranked.beta is None
    for step in ("counterfactuals", "guide", "eval"):
        assert steps.settings[f"{run}/round-1/{step}"].reward.judge == judge
    # Traces that another judge scored are no data of a guide.
    assert steps.settings[f"{run}/round-1/guide"].data.traces == ()
    last = improved.rounds[1]
    assert (last.judge, last.used["judge"].used) == (judge, True)
    # Rewards of another judge cannot be compared.
    assert last.reward_gain is None
    assert last.accuracy_gain is not None


def test_a_judge_that_makes_its_lm_worse_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    greedy = {f"round-{n}/validation-greedy": (0.0, 1.0) for n in range(2)}
    steps = Steps(greedy | {"round-1/validation-judge": (9.0, 0.0)})
    improved = run_rounds(tmp_path, monkeypatch, steps, *JUDGED, "rounds=1")
    assert not improved.rounds[1].used["judge"].used
    counterfactuals = steps.settings[f"{tmp_path}/run/round-1/counterfactuals"]
    assert counterfactuals.reward.judge == improved.rounds[1].judge == "embedded"


def test_guided_rounds_without_a_guide_of_use_have_the_lm_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = {f"round-{n}/validation-greedy": (0.0, 1.0) for n in range(3)}
    steps = Steps(results | {"round-1/validation-search": (9.0, 0.0)})
    guided = ("decoding.method=guided", "reward.guide=embedded-head", "explore.tail.beta=0.5")
    only_lm = ("steps=[search,samples,distill]", "answers=final")
    improved = run_rounds(tmp_path, monkeypatch, steps, *only_lm, *guided)
    ran = [name for name, _, _ in short(steps, tmp_path)]
    # The first response of guided decoding is not the greedy one.
    assert "round-1/greedy" in ran
    assert not {"round-2/traces", "round-2/eval", "round-2/validation-search"} & set(ran)
    last = improved.rounds[2]
    assert (last.guide, last.way, last.accuracy) == (None, "greedy", 0.5)

    steps = Steps(results | {"round-1/validation-search": (9.0, 0.0)})
    everything = ("steps=[samples,distill,counterfactuals,guide]", "answers=final")
    run_rounds(tmp_path / "b", monkeypatch, steps, *everything, *guided)
    run = f"{tmp_path}/b/run"
    assert steps.settings[f"{run}/round-1/counterfactuals"].explore.tail.beta == 0.5
    # The new guide makes its LM worse, and the one before does not: it stays.
    assert steps.settings[f"{run}/round-2/counterfactuals"].reward.guide == "embedded-head"


def test_rounds_end_where_the_reward_is_hacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = {"round-0/eval": (1.0, 1.0), "round-1/eval": (2.0, 0.0)}
    improved = run_rounds(tmp_path, monkeypatch, Steps(results))
    assert improved.stop_reason == "reward_hacked"
    assert [r.reward_hacked for r in improved.rounds] == [False, True]
    assert improved.chosen.number == 0
    chosen = yaml.safe_load((tmp_path / "run" / "chosen.yaml").read_text())
    assert chosen["reward"] == {"judge": "embedded", "guide": None}


def test_a_step_without_rows_ends_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = Steps({})
    steps.outcome = RunOutcome(finished=0, dead=4, total=4, totals={})
    with pytest.raises(RunError, match=r"round-0/eval-greedy: too many dead letters to continue"):
        run_rounds(tmp_path, monkeypatch, steps)
