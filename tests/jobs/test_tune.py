"""Tuning on a real Ray: every candidate on every prompt, and a choice that can be used."""

import json
from itertools import product

from jobs import tune
from pipeline.config import load
from pipeline.generate.config import GenerateConfig
from tests.pipeline.rows import keys


def test_every_candidate_meets_every_prompt_and_the_choice_is_a_config(
    cluster, prompts, tmp_path, capsys
):
    run, log = tmp_path / "run", tmp_path / "log"
    given = [
        *(f"run_dir={run}", f"prompts.path={prompts('one', 'two', 'three')}"),
        *(f"lm.path=scripted?log={log}", "decoding.nabla.proposals=ranked"),
        *("grid.beta=[1]", "grid.min_score=[-3]", "grid.reward_weight=[0,2]"),
    ]
    assert tune.main(given) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert keys(run) == sorted(product(("p0", "p1", "p2"), range(4)))
    assert list(line["tried"]) == [
        f"beta={beta} min_score=-3 reward_weight={weight}"
        for beta in ("null", 1)
        for weight in (0, 2)
    ]
    assert line["prompts"] == 3
    assert line["measure"] == "reward"
    chosen = load(GenerateConfig, [str(run / "chosen.yaml")]).decoding.nabla.ranked
    assert line["chosen"] == {
        f"decoding.nabla.ranked.{name}": getattr(chosen, name)
        for name in ("beta", "min_score", "reward_weight")
    }
    # The models that it was measured with are in it, whatever the files before name.
    models = load(GenerateConfig, ["configs/embedded.yaml", str(run / "chosen.yaml")])
    assert models.lm.path == f"scripted?log={log}"
    assert models.reward == GenerateConfig().reward
    assert line["guide_helps"] == (line["best_minus_null"][1] > 0)

    made = log.read_text()
    assert tune.main(given) == 0
    assert log.read_text() == made
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == line
    for other in ("grid.reward_weight=[0]", "verify.method=last_number"):
        assert tune.main([*given, other]) == 2
        assert f"{other.partition('=')[0]}: " in capsys.readouterr().err


def test_too_many_dead_letters_choose_nothing(cluster, prompts, tmp_path, capsys):
    few = [
        *(f"run_dir={tmp_path / 'few'}", f"prompts.path={prompts('!raise')}", "lm.path=scripted"),
        *(
            "decoding.nabla.proposals=ranked",
            "grid.beta=[1]",
            "grid.min_score=[-3]",
            "grid.reward_weight=[0,2]",
        ),
    ]
    assert tune.main(few) == 1
    errors = capsys.readouterr().err
    assert "nothing to compare, too many dead letters" in errors
    assert "finished are 0 rows of 0 candidates" in errors
    assert not (tmp_path / "few" / "chosen.yaml").exists()

    many = prompts(*["!raise"] * 12, name="many.jsonl")
    assert tune.main([*few, f"run_dir={tmp_path / 'many'}", f"prompts.path={many}"]) == 3
    assert "ended early, too many dead letters" in capsys.readouterr().out


def test_what_has_nothing_to_tune_is_refused(capsys):
    assert tune.main(["decoding.method=greedy"]) == 2
    assert "not decoding.method=greedy" in capsys.readouterr().err
    assert tune.main(["decoding.nabla.proposals=random"]) == 2
    assert "has nothing to tune" in capsys.readouterr().err
