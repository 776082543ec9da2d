"""The three commands for models and prompts of one's own, on copies of the embedded models."""

import json
import shutil
from pathlib import Path

import pytest

from jobs import cli
from nabla_core.embedded import task
from nabla_core.embedded.weights import folder
from tests.jobs.test_generate import rows

OWN = Path(__file__).parents[2] / "configs" / "own"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """The models that the first line of each config asks for; the prompts are in mine.jsonl."""
    monkeypatch.chdir(tmp_path)
    models = {role: shutil.copytree(folder(role), tmp_path / "models" / role) for role in ROLES}
    prompts = task.prompts(24, seed=3, split="train")
    lines = (json.dumps({"question": p.text, "answer": p.answer}) for p in prompts)
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    return [f"lm.path={models['lm']}", f"reward.judge={models['judge']}"]


ROLES = ("lm", "judge")


def keys_asked_for(name: str) -> set[str]:
    first = (OWN / name).read_text().splitlines()[0]
    return {word.partition("=")[0] for word in first.split() if "=" in word}


@pytest.mark.timeout(600)
def test_three_commands_make_refined_traces_with_a_head_of_ones_own(cluster, given, capsys):
    """With the settings of the files, bar those that say how long it takes."""

    def run(verb, name, prompts, *shorter):
        words = ["--config", str(OWN / name), *given, f"{prompts}=mine.jsonl", *shorter]
        assert keys_asked_for(name) == {"lm.path", "reward.judge", prompts}
        assert cli.main([verb, *words, "--dry-run"]) == 0, capsys.readouterr().err
        assert cli.main([verb, *words]) == 0, capsys.readouterr().err
        return capsys.readouterr()

    shorter = ["max_tokens=20", "prompts.skip=4", "prompts.limit=16"]
    run("counterfactuals", "counterfactuals.yaml", "prompts.path", *shorter)
    explored = rows(Path("runs/own/counterfactuals"))
    assert len(explored) == 16 * 2
    assert {len(row["places"]) for row in explored} <= {1, 2, 3, 4}

    shorter = ["validation.max_tokens=20", "validation.prompts.limit=4", "optimise.steps=20"]
    run("train-guide", "train_guide.yaml", "validation.prompts.path", *shorter)
    card = json.loads(Path("runs/own/head/guide/card.json").read_text())
    assert (card["kind"], card["chosen_step"]) == ("head", 20)
    assert card["data"]["validation_overlap"] == 0

    shown = run("generate", "generate.yaml", "prompts.path", "decoding.max_tokens=20")
    assert "verify.method=last_number: all 24 answers are numbers" in shown.err
    made = rows(Path("runs/own/traces"))
    assert len(made) == 24
    assert {row["guide_model"] for row in made} == {"guide"}
    assert {row["method"] for row in made} == {"guided"}
    assert all(row["correct"] in (True, False) for row in made)
    # The head read the prompt, and the judge the answer: guiding adds no call.
    assert {row["cost"]["rm_forward"] for row in made} == {2}
    assert all(row["cost"]["paper_calls"] == len(row["response_token_ids"]) + 1 for row in made)
    assert " -> " not in shown.out

    searched = ["decoding.max_tokens=20", "decoding.method=nabla", "run_dir=runs/own/searched"]
    run("generate", "generate.yaml", "prompts.path", *searched)
    made = rows(Path("runs/own/searched"))
    assert len(made) == 24
    assert all(row["reward"] >= row["base_reward"] for row in made)
    assert any(revision["accepted"] for row in made for revision in row["revisions"])
    assert sum(row["correct"] for row in made) >= sum(row["base_correct"] for row in made)
