import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.compare.config import CompareConfig
from pipeline.config import load, to_yaml
from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.distill.config import DistillConfig
from pipeline.duality.config import DualityConfig
from pipeline.errors import ConfigError
from pipeline.estimate.config import EstimateConfig
from pipeline.export.config import ExportConfig
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig
from pipeline.report.config import ReportConfig
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.train_judge.config import TrainJudgeConfig
from pipeline.tune.config import TuneConfig

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "configs" / "embedded.yaml"
JOBS = {
    "generate": GenerateConfig,
    "estimate": EstimateConfig,
    "report": ReportConfig,
    "export": ExportConfig,
    "tune": TuneConfig,
    "counterfactuals": CounterfactualsConfig,
    "train_guide": TrainGuideConfig,
    "train_judge": TrainJudgeConfig,
    "improve": ImproveConfig,
    "distill": DistillConfig,
    "compare": CompareConfig,
    "duality": DualityConfig,
}
CONFIGS = sorted(
    path for folder in ("configs", "tests/bench") for path in (ROOT / folder).rglob("*.yaml")
)


def nested(key: str, value: str) -> str:
    """The YAML that gives a dotted key a value."""
    *sections, last = key.split(".")
    opened = "".join(f"{section}: {{" for section in sections)
    return f"{opened}{last}: {value}{'}' * len(sections)}"


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_in_the_repository_loads_and_says_how_to_run_it(path):
    command = rf"# nabla ([\w-]+) --config {path.relative_to(ROOT)}"
    found = re.match(command, path.read_text())
    assert found
    config = load(JOBS[found[1].replace("-", "_")], [path])
    assert getattr(config, "out", config.run_dir).startswith("runs/")


def test_what_exactness_refuses_is_there_without_it():
    keys = ("weight_decay=0.1", "gumbel_noise=0.5", "update_postfix=true")
    asked = [f"decoding.nabla.dto.{key}" for key in keys]
    with pytest.raises(ConfigError, match=r"weight_decay=0\.1, dto\.gumbel_noise=0\.5"):
        load(GenerateConfig, [], asked)
    nabla = load(GenerateConfig, [], [*asked, "decoding.nabla.exact=false"]).decoding.nabla
    assert (nabla.dto.weight_decay, nabla.dto.update_postfix) == (0.1, True)


def test_overrides_beat_files_and_files_beat_defaults(tmp_path):
    file = write(tmp_path, "seed: 1\nsamples_per_prompt: 3\n")
    config = load(GenerateConfig, [file], ["seed=2", "decoding.nabla.max_rollouts=5"])
    assert (config.seed, config.samples_per_prompt) == (2, 3)
    assert config.decoding.nabla.max_rollouts == 5
    assert config.max_attempts == GenerateConfig().max_attempts


def test_a_later_file_beats_an_earlier_one_key_by_key(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("seed: 1\nlm: {path: a, revision: x}\nsamples_per_prompt: 3\n")
    second.write_text("seed: 2\nlm: {path: b}\n")
    config = load(GenerateConfig, [first, second])
    assert (config.seed, config.samples_per_prompt) == (2, 3)
    assert (config.lm.path, config.lm.revision) == ("b", "x")
    assert load(GenerateConfig, [second, first]).seed == 1
    assert load(GenerateConfig, [first, second], ["seed=7"]).seed == 7


def test_an_error_names_the_one_of_several_files_that_it_is_in(tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("seed: 1\n")
    bad.write_text("sed: 2\n")
    for files in ([good, bad], [bad, good]):
        with pytest.raises(ConfigError, match=rf"^{bad}: sed: ") as failure:
            load(GenerateConfig, files)
        assert str(good) not in str(failure.value)


def test_the_resolved_config_reads_back_to_the_same_one(tmp_path):
    config = load(GenerateConfig, [EMBEDDED], ["prompts.columns.prompt=q", "run_dir=s3://b/k"])
    assert load(GenerateConfig, [write(tmp_path, to_yaml(config))]) == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sed=1", ["override 'sed=1'", "sed", "did you mean seed?"]),
        (
            "decoding.nabla.max_rolouts=1",
            ["decoding.nabla.max_rolouts", "did you mean decoding.nabla.max_rollouts?"],
        ),
        ("seed=abc", ["seed", "'abc'", "Integer"]),
        ("decoding.nabla.max_rollouts=1.5", ["decoding.nabla.max_rollouts", "Integer"]),
        ("decoding.method=magic", ["decoding.method", "magic", "nabla", "best_of_n"]),
        ("decoding.nabla.dto.max_iters=-1", ["max_iters must be at least 0, got -1"]),
        ("decoding.nabla.dto.weight_decay=0.1", ["exact: true refuses dto.weight_decay=0.1"]),
        ("decoding.nabla.dto.gumbel_noise=1", ["exact: true refuses dto.gumbel_noise=1.0"]),
        ("decoding.nabla.dto.update_postfix=true", ["exact: true refuses dto.update_postfix=True"]),
        ("decoding.nabla.dto.gumbel_noise=-1", ["dto.gumbel_noise must be at least 0, got -1"]),
        ("cluster.actors.min=5", ["cluster.actors", "min=5"]),
        (
            "decoding.method=guided",
            ["decoding.guided.beta=1 needs a guide that decodes: set reward.guide to a head"],
        ),
        ("decoding.nabla.rollout.beta=2", ["decoding.nabla.rollout.beta=2 needs a guide"]),
        ("decoding.guided.beta=null", ["guided.beta must be set; sample needs no guide"]),
        ("store.flush_rows=0", ["store.flush_rows must be at least 1"]),
        ("seed", ["'seed' is not of the form key=value"]),
        ("=3", ["'=3' is not of the form key=value"]),
    ],
)
def test_a_wrong_override_is_named_with_what_would_be_right(override, words):
    with pytest.raises(ConfigError) as failure:
        load(GenerateConfig, [], [override])
    for expected in words:
        assert expected in str(failure.value)


NUMBERS = {
    "seed": int,
    "max_attempts": int,
    "max_dead_fraction": float,
    "reward.min_coverage": float,
    "runtime.max_batch": int,
    "decoding.nabla.dto.beta": float,
    "decoding.nabla.objective.nll_coeff": float,
    "decoding.nabla.ranked.min_score": float,
    "cluster.hang_seconds": float,
    "store.flush_seconds": float,
}


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [".inf", "-.inf", "inf", ".nan", "nan", "1e400"])
def test_a_number_that_is_not_finite_is_refused_with_the_key_and_where_it_was_set(
    tmp_path, key, value
):
    for files, overrides, source in (
        ([], [f"{key}={value}"], f"override '{key}={value}': {key}: "),
        ([write(tmp_path, nested(key, value))], [], f"{tmp_path / 'config.yaml'}: {key}: "),
    ):
        with pytest.raises(ConfigError) as failure:
            load(GenerateConfig, files, overrides)
        assert str(failure.value).startswith(source)
        assert NUMBERS[key] is int or "is not a finite number" in str(failure.value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_an_integer_beyond_64_bits_is_refused_with_the_key_and_where_it_was_set(tmp_path, value):
    message = f"override 'seed={value}': seed: an integer of more than 64 bits"
    with pytest.raises(ConfigError) as failure:
        load(GenerateConfig, [], [f"seed={value}"])
    assert str(failure.value) == message
    file = write(tmp_path, f"seed: {value}")
    with pytest.raises(ConfigError, match=rf"{file}: seed: an integer of more than 64 bits"):
        load(GenerateConfig, [file])


def test_integers_of_64_bits_are_seeds():
    for seed in (2**63 - 1, -(2**63), 0):
        assert load(GenerateConfig, [], [f"seed={seed}"]).seed == seed
    with pytest.raises(ConfigError, match=r"seed \+ rounds, .* must have 64 bits"):
        load(ImproveConfig, [], [f"seed={2**63 - 1}", "training.kind=gradient"])
    for seed in (-1, 2**32):
        with pytest.raises(ConfigError, match=r"seeds must be in 0\.\.2\*\*32-1"):
            load(DualityConfig, [], [f"seeds=[1,{seed}]"])


def test_an_integer_of_more_digits_than_python_reads_is_refused(tmp_path):
    digits = "1" * 5000
    for files, overrides in (([], [f"seed={digits}"]), ([write(tmp_path, f"seed: {digits}")], [])):
        with pytest.raises(ConfigError, match=r"seed|digits"):
            load(GenerateConfig, files, overrides)


def test_an_element_of_a_list_is_named_by_its_number():
    with pytest.raises(ConfigError, match=r"grid\.beta\[1\]: inf is not a finite number"):
        load(TuneConfig, [], ["grid.beta=[1,.inf]"])


def test_a_number_from_the_environment_is_checked_too(monkeypatch):
    monkeypatch.setenv("SOME_SECONDS", "inf")
    with pytest.raises(ConfigError, match=r"store\.flush_seconds"):
        load(GenerateConfig, [], ["store.flush_seconds=${oc.env:SOME_SECONDS}"])


@pytest.mark.parametrize(
    ("job", "key"),
    [
        *(("generate", key) for key in ("store.flush_seconds", "store.lease_seconds")),
        *(("generate", key) for key in ("cluster.hang_seconds", "cluster.load_seconds")),
        ("generate", "verify.seconds"),
        *(("improve", f"training.workers.{k}") for k in ("scheduling_timeout_s", "lease_seconds")),
    ],
)
def test_a_duration_is_one_that_a_thread_can_wait_for(job, key):
    name = key.rpartition(".")[2]
    with pytest.raises(ConfigError, match=f"{name} must be at most"):
        load(JOBS[job], [], [f"{key}=1e11"])
    load(JOBS[job], [], [f"{key}=2e6"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lm: {pathh: x}", ["lm.pathh", "did you mean lm.path?"]),
        ("seed: [1", ["not YAML"]),
        ('prompts: {system: "for ${"}', ["${"]),
        ("- seed", ["expected a mapping"]),
        ("seed: 1\nlm:\n  null: x", ["line 3: YAML reads this key as null; put it in quotes"]),
        ("seed: 1\nlm: [{a: 1}, {~: x}]", ["line 2: YAML reads this key as null"]),
        ("seed: {a: 1}", ["seed"]),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, words):
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as failure:
        load(GenerateConfig, [file])
    for expected in (str(file), *words):
        assert expected in str(failure.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        load(GenerateConfig, [tmp_path / "nowhere.yaml"])


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"seed: \xff")
    with pytest.raises(ConfigError, match="invalid UTF-8 at byte 6"):
        load(GenerateConfig, [path])


def test_help_and_wrong_keys_need_neither_torch_nor_ray():
    script = (
        "import sys\n"
        "from jobs import counterfactuals, generate, improve, train_guide, tune\n"
        "for job in (counterfactuals, generate, improve, train_guide, tune):\n"
        "    assert job.main(['sed=1']) == 2\n"
        "heavy = {'torch', 'ray', 'transformers', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("did you mean seed?") == 5
