"""`--dry-run` of the commands around a training: counterfactuals, tune, train-guide, improve."""

from nabla_core.embedded.weights import folder
from tests.jobs.test_dry_run import ROOT, asked, dry, in_order, models
from tests.pipeline.train_guide import exploration

__all__ = ["asked", "dry"]


def test_counterfactuals_and_tune_are_checked_alike(dry, asked, plain):
    paths = [f"lm.path={plain.lm}", f"reward.judge={plain.judge}"]
    code, shown, _ = dry("counterfactuals", *asked(), *paths, "explore.positions=2")
    assert code == 0
    in_order(shown, "as the LM reads it", "3 prompts x 4 temperatures = 12 rows", "25 rollouts")
    code, shown, _ = dry("tune", *asked(), *models(plain), "grid.beta=[1]")
    assert code == 0
    in_order(shown, "3 prompts x 18 candidates = 54 rows", "cost", "candidate: beta=null min_")
    for verb in ("counterfactuals", "tune"):
        code, _, told = dry(verb, *asked(), f"lm.path={plain.lm}", f"reward.judge={plain.lm}")
        assert code == 2
        assert f"{plain.lm}: a reward model has one label" in told


def test_a_training_is_checked_with_its_data(dry, plain, grouped, explored, tmp_path):
    words = exploration.settings(plain, explored, tmp_path / "run")
    code, shown, told = dry("train-guide", *words)
    assert code == 0, told
    in_order(
        shown,
        "as the LM reads it",
        f"training 6 steps of 6 responses from {explored}\n",
        "search   on 4 validation prompts, every 2 steps\n",
        "answers  0 of 4 prompts have one, not graded\n",
        "columns  prompt from prompt, id from id\n",
        "cost     ",
    )
    for more, message in (
        ([f"lm.path={folder('lm')}"], f"made with the LM {plain.lm.name} "),
        ([f"reward.judge={plain.lm}"], f"{plain.lm}: a reward model has one label"),
        ([f"start.path={tmp_path}/none"], f"start.path: {tmp_path}/none: no such folder"),
        ([f"start.path={grouped.judge}"], f"{grouped.judge} knows "),
        ([f"data.counterfactuals=[{tmp_path}/none]"], f"{tmp_path}/none is no finished run"),
        (["workers.gpu=true"], "needs 1 GPU, and this machine has 0"),
        (["validation.prompts.path=none.jsonl"], "none.jsonl"),
    ):
        code, shown, told = dry("train-guide", *words, *more)
        assert code == 2, message
        assert message in told


def test_rounds_are_checked_before_the_first(dry, plain, tmp_path):
    words = [
        *("--config", str(ROOT / "configs" / "improve_embedded.yaml"), f"run_dir={tmp_path}/run"),
        *("prompts.limit=4", "eval_prompts.limit=5", "training.validation.prompts.limit=3"),
    ]
    code, shown, told = dry("improve", *words)
    assert code == 0, told
    in_order(
        shown,
        "as the judge reads it",
        "3 of training: 12 rows of search, 48 of exploration, 20 of evaluation\n",
        "graded by verify.method=embedded\n",
        "without training",
    )
    code, _, told = dry("improve", *words, f"reward.judge={plain.lm}")
    assert code == 2
    assert f"{plain.lm}: a reward model has one label" in told
