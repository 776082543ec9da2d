"""AUC within prompts is among the main figures; a judge that knows hard prompts alone is told."""

from __future__ import annotations

from jobs.display import judge_figures
from nabla_core.judge_training.evaluation import JudgedAnswer
from pipeline.train_judge.examination import best_of, figures
from pipeline.train_judge.report import summary


def examined(reward):
    """Figures of a judge on ten easy prompts (three of four right) and ten hard ones (one of
    four)."""
    answers = [
        JudgedAnswer(f"{kind} {n}", reward(kind, right), right)
        for kind, verdicts in (("easy", (1, 1, 1, 0)), ("hard", (1, 0, 0, 0)))
        for n in range(10)
        for right in map(bool, verdicts)
    ]
    fresh = figures(answers) | {"best_of": best_of(answers), "prompts": 20}
    return {"fresh": fresh, "given": {"run (held out)": figures(answers)}, "searched": None}


def told(found):
    return list(
        judge_figures.warnings(
            {"data": {"validation_overlap": 0}, "baseline": {}, "metrics": summary(found)}
        )
    )


def test_a_judge_that_knows_only_which_prompts_are_hard_is_told():
    found = examined(lambda kind, right: float(kind == "easy"))
    main = summary(found)
    assert main["fresh_auc"] == main["auc"] == 0.75
    assert main["fresh_auc_within_prompts"] == main["auc_within_prompts"] == 0.5
    (warning,) = told(found)
    assert "0.750 over all fresh samples and 0.500 among samples of one prompt" in warning


def test_a_judge_that_knows_right_answers_is_not():
    found = examined(lambda kind, right: float(right))
    assert summary(found)["fresh_auc_within_prompts"] == 1.0
    assert told(found) == []
    ungraded = {"fresh": {"auc": None, "auc_within_prompts": None, "best_of": {}}, "given": {}}
    assert told(ungraded | {"searched": None}) == []
