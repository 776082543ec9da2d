"""`--dry-run` of the commands around a training: counterfactuals, tune, train-guide, improve."""

import shutil

from nabla_core.embedded import task
from nabla_core.embedded.weights import folder
from tests.jobs.test_dry_run import ROOT, asked, dry, in_order, models
from tests.pipeline.distill import exported
from tests.pipeline.export.runs import trace, write_run
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
        "2 of search, samples, distill, judge, counterfactuals, guide\n",
        "16 of search, 160 of samples, 32 of exploration, 27 of evaluation, ",
        "24 of greedy evaluation\n",
        "graded by verify.method=embedded; answers=final\n",
        "without training",
    )
    code, _, told = dry("improve", *words, f"reward.judge={plain.lm}")
    assert code == 2
    assert f"{plain.lm}: a reward model has one label" in told


def test_a_student_is_checked_with_its_training_set(dry, plain, grouped, tmp_path):
    fingerprint = exported.fingerprint_of(plain)
    rows = exported.tokens(exported.texts(40), plain)
    about = {"format": "tokens", "layout": None, "tokenizer": fingerprint}
    export = exported.write_export(tmp_path / "set", rows, **about)
    run = tmp_path / "run"
    words = exported.settings(plain, export, run)
    length = sum(len(row["input_ids"]) for row in rows) / 40
    code, shown, told = dry("distill", *words, "data.max_length=10")
    assert code == 0, told
    in_order(
        shown,
        "data     set: 40 rows of format tokens\n",
        "training 6 steps of 8 rows, of about 36, loss sft\n",
        f"tokens   {length:,.0f} a row on average, {8 * length:,.0f} a step",
        "40 of the first 40 rows are too long and would be left out\n",
        "memory   0.3 MB in each worker",
        "measured on 6 validation prompts, every 2 steps, by accuracy\n",
        "answers  6 of 6 prompts have one, graded by verify.method=embedded\n",
        f"run_dir  {run} is new\n",
    )
    epochs = dry("distill", *words, "optimise.steps=null", "optimise.epochs=2")
    assert "training 10 steps of 8 rows" in epochs[1]
    lora = dry("distill", *words, "optimise.lora.rank=2", "optimise.lora.targets=[q_proj]")[1]
    (line,) = (line for line in lora.splitlines() if line.startswith("memory"))
    assert 0 < int(line.split("optimiser, ")[1].split()[0].replace(",", "")) < 2000

    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").touch()
    for more, message in (
        ([f"data.exports=[{tmp_path}/none]"], "none is no folder of `nabla export`"),
        ([f"student.path={tmp_path}/none"], f"student.path: {tmp_path}/none: no such folder"),
        ([f"student.path={grouped.lm}"], "holds tokens of the tokenizer"),
        ([f"student.path={plain.judge}"], "is not a causal LM"),
        (["optimise.lora.rank=2", "optimise.lora.targets=[nose]"], "'nose' cannot be adapted"),
        ([f"validation.judge={plain.lm}"], "a reward model has one label"),
        (["validation.prompts.path=none.jsonl"], "none.jsonl"),
        (["workers.gpu=true"], "needs 1 GPU, and this machine has 0"),
        ([f"run_dir={taken}"], "is no run folder and holds thesis.txt"),
    ):
        code, _, told = dry("distill", *words, *more)
        assert code == 2, message
        assert message in told

    # Messages need a template that ends an answer.
    lm = shutil.copytree(plain.lm, tmp_path / "chat")
    (lm / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    pairs = exported.write_export(
        tmp_path / "pairs", exported.pairs(12), format="preference", layout=None
    )
    asked = exported.settings(plain, pairs, run, f"student.path={lm}")
    code, _, told = dry("distill", *asked)
    assert code == 2
    assert "would not learn to stop" in told


def test_run_folders_are_filtered_dry(dry, tmp_path):
    prompts = task.prompts(30, seed=0, split="train")
    teacher = write_run(
        tmp_path / "teacher",
        [
            trace(p.id, task.solve(p.text), question=p.text, answer=p.answer, correct=n < 20)
            for n, p in enumerate(prompts)
        ],
    )
    words = [
        *("--config", str(ROOT / "configs" / "distill_embedded.yaml"), "optimise.steps=null"),
        *(f"run_dir={tmp_path}/run", f"export.run_dir=[{teacher}]", "validation.prompts.limit=5"),
    ]
    code, shown, told = dry("distill", *words)
    assert code == 0, told
    in_order(
        shown,
        "data     teacher: 30 traces\n",
        "training 1 steps of 32 rows, of 20, loss sft\n",
        f"run_dir  {tmp_path}/run is new\n",
    )
