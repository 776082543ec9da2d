"""Configs of benchmarks and of models go together, and read real prompts where they are present."""

import re
from pathlib import Path

import pytest

from jobs import generate
from pipeline.config import load
from pipeline.estimate.config import EstimateConfig
from pipeline.estimate.job import estimate
from pipeline.generate.config import GenerateConfig
from pipeline.grading.graders import grader
from pipeline.inputs.prompts import read
from tests.shared_data import FOLDER, rows

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = sorted((CONFIGS / "models").glob("*.yaml"))
# By benchmark: its file beside the repository, prompts, longest response, and a right answer in
# other words.
BENCHMARKS = {
    "gsm8k": ("gsm8k_test.jsonl", 1319, 1024, "18", "18.0"),
    "math500": ("math500.jsonl", 500, 1024, r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
    "aime2024": ("aime2024.jsonl", 30, 3072, "204", "204"),
    "amc23": ("amc23.jsonl", 83, 1024, "142.0", "142"),
}


def test_every_benchmark_is_tested():
    assert {path.stem for path in (CONFIGS / "benchmarks").iterdir()} == BENCHMARKS.keys()


@pytest.mark.parametrize("models", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_and_models_are_one_config_in_either_order(name, models):
    benchmark = CONFIGS / "benchmarks" / f"{name}.yaml"
    config = load(GenerateConfig, [benchmark, models])
    assert config == load(GenerateConfig, [models, benchmark])
    assert config.decoding.max_tokens == BENCHMARKS[name][2]
    assert config.decoding.nabla.max_rollouts == 8
    assert config.reward.judge.startswith("Skywork/")
    for path in (benchmark, models):
        assert "NOT RUN by the authors" in path.read_text().replace("\n# ", " ")


@pytest.mark.parametrize("models", MODELS, ids=lambda path: path.stem)
def test_the_config_of_models_says_what_memory_they_take(models):
    said = re.search(r"gives (\d+) GB \((\d+) GB of weights\)", models.read_text())
    found = estimate(load(EstimateConfig, [models])).memory
    assert [round(found.total / 1e9), round(found.weights / 1e9)] == [int(n) for n in said.groups()]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_reads_and_grades_real_prompts(name, tmp_path, capsys):
    file, count, _, answer, other = BENCHMARKS[name]
    rows(file)  # skips, where it is missing
    given = [
        *("--config", str(CONFIGS / "benchmarks" / f"{name}.yaml"), f"run_dir={tmp_path / 'run'}"),
        *(f"prompts.path={FOLDER / file}", "prompts.name=null", "prompts.split=null"),
    ]
    assert generate.main([*given, "lm.path=scripted", "--dry-run"]) == 0
    said = f"answers  {count:,} of {count:,} prompts have one, graded by verify.method=math"
    assert said in capsys.readouterr().out
    config = load(GenerateConfig, [given[1]], given[3:])
    first = next(iter(read(config.prompts))).prompt
    assert (first.answer, first.system) == (answer, config.prompts.system)
    grade = grader(config.verify)
    assert grade(first, rf"So it is \boxed{{{other}}}.").correct is True
    assert grade(first, r"So it is \boxed{7}.").correct is False
    grade.close()
