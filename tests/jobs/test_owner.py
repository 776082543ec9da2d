"""A run folder of one job is refused by every other one, before anything is written in it."""

from pathlib import Path

import pytest

from jobs.cli import command
from jobs.exit_codes import ExitCode
from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.counterfactuals.plan import plan as counterfactuals_plan
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.store.checks.config_check import check_config
from pipeline.store.checks.owner import Owner, claim_owner
from pipeline.store.files import Folder
from pipeline.tune.config import TuneConfig
from pipeline.tune.plan import plan as tune_plan
from tests.pipeline.rows import item, row, store_in

CONFIGS = Path(__file__).parents[2] / "configs"
# The config of each job; that of generate fits tune too.
JOBS = {
    "generate": "embedded.yaml",
    "counterfactuals": "counterfactuals_embedded.yaml",
    "tune": "tune_embedded.yaml",
    "train-guide": "train_head_embedded.yaml",
    "train-judge": "train_judge_embedded.yaml",
    "improve": "improve_embedded.yaml",
    "duality": "duality.yaml",
    "distill": "distill_embedded.yaml",
}
OWNERS = {
    "generate": plan(GenerateConfig()).owner,
    "counterfactuals": counterfactuals_plan(CounterfactualsConfig()).owner,
    "tune": tune_plan(TuneConfig()).owner,
    **{job: Owner(job) for job in ("train-guide", "train-judge", "improve", "duality", "distill")},
}


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("owner", JOBS)
@pytest.mark.parametrize("job", JOBS)
def test_a_folder_of_another_job_is_refused_by_both_names(tmp_path, capsys, job, owner):
    if job == owner:
        return
    claim_owner(Folder(str(tmp_path)), OWNERS[owner])
    before = content(tmp_path)
    given = ["--config", str(CONFIGS / JOBS[job]), f"run_dir={tmp_path}"]
    assert command(job).main(given) == ExitCode.INVALID
    error = capsys.readouterr().err
    assert f"{tmp_path} is the run folder of `nabla {owner}`, and this is `nabla {job}`" in error
    assert content(tmp_path) == before


def test_tune_with_the_config_of_generate_moves_no_committed_row(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "embedded"
    config = GenerateConfig(run_dir=str(run))
    check_config(Folder(str(run)), config, plan(config).owner)
    store_in(run).commit([row(item("a"))])
    before = content(run)
    given = ["--config", str(CONFIGS / "embedded.yaml")]
    assert command("tune").main(given) == ExitCode.INVALID
    assert "runs/embedded is the run folder of `nabla generate`" in capsys.readouterr().err
    assert content(run) == before
    # A dry run of generate reads the folder, and that of another job is no better for it.
    inside = ["--config", str(CONFIGS / "embedded.yaml"), "--dry-run", f"run_dir={run}/parts"]
    assert command("generate").main(inside) == ExitCode.INVALID
    assert f"lies in {run}, which is the run folder of `nabla generate`" in capsys.readouterr().err
