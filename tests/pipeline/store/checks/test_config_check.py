import shutil
from dataclasses import dataclass, field, replace

import pytest
import yaml

from nabla_core.config_metadata import NOT_SHAPING, SHAPING_THROUGHOUT
from nabla_core.model_config import Reward, Runtime
from pipeline.counterfactuals.config import CounterfactualsConfig
from pipeline.duality.checkpoints.checks import RunConfig
from pipeline.errors import ResumeError
from pipeline.generate.config import GenerateConfig
from pipeline.improve.config import ImproveConfig
from pipeline.store.checks.config_check import CONFIG, check_config, digest, not_shaping
from pipeline.store.checks.owner import Owner
from pipeline.store.checks.version import claim_version
from pipeline.store.expected import Expected, write_expected
from pipeline.store.files import Folder
from pipeline.train_guide.config import TrainGuideConfig
from pipeline.tune.config import TuneConfig

OWNER = Owner("generate", "traces/5")
RUNTIME = (
    "runtime.max_batch",
    "runtime.max_batch_tokens",
    "runtime.reuse",
    "runtime.gradient_checkpointing",
)
STORE = (
    *("store.flush_rows", "store.flush_seconds", "store.rows_per_file"),
    *("store.threads", "store.lease_seconds"),
)
ROWS = {
    *("run_dir", "max_attempts", "max_dead_fraction", "allow_input_change", "prompts"),
    *RUNTIME,
    *("verify.seconds", "cluster", "budget"),
    *("lm.revision", "reward.judge_revision", "reward.guide_revision"),
    *STORE,
}
FREE = {
    GenerateConfig: ROWS | {"samples_per_prompt"},
    CounterfactualsConfig: ROWS,
    TuneConfig: ROWS,
    TrainGuideConfig: {
        *("run_dir", "workers", "start.revision", "teacher.revision"),
        *("lm.revision", "reward.judge_revision", "reward.guide_revision"),
    },
    ImproveConfig: {
        *("run_dir", "rounds", "training.workers", "distill.workers", "judge.workers"),
        *(*RUNTIME, "cluster", *STORE),
    },
    RunConfig: {
        *(
            "checkpoints.prompts",
            "checkpoints.betas",
            "checkpoints.verify.seconds",
            "checkpoints.cluster",
        ),
        *(
            "checkpoints.store",
            "checkpoints.max_attempts",
            "checkpoints.reference.revision",
            "checkpoints.policy.revision",
            "checkpoints.reward.judge_revision",
            "checkpoints.reward.guide_revision",
            *(f"checkpoints.{key}" for key in RUNTIME),
        ),
    },
}


@pytest.mark.parametrize(("config", "free"), FREE.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_the_settings_that_a_resume_may_change_are_these(config, free):
    assert set(not_shaping(config)) == free


@dataclass(frozen=True)
class Section:
    rate: float = 0.5
    threads: int = field(default=1, metadata=NOT_SHAPING)


@dataclass(frozen=True)
class Settings:
    names: tuple[str, ...] = ("a",)
    part: Section = field(default_factory=Section)
    whole: Section = field(default_factory=Section, metadata=SHAPING_THROUGHOUT)
    place: Section = field(default_factory=Section, metadata=NOT_SHAPING)


CHANGED = Section(threads=2)


def test_marks_below_a_section_that_shapes_throughout_do_not_count():
    assert not_shaping(Settings) == ["part.threads", "place"]


@pytest.mark.parametrize(
    "free", [Settings(part=CHANGED), Settings(place=CHANGED), Settings(place=Section(rate=1.0))]
)
def test_a_setting_that_shapes_nothing_may_change(tmp_path, free):
    folder = Folder(str(tmp_path))
    check_config(folder, Settings(), OWNER)
    check_config(folder, free, OWNER)
    assert digest(free) == digest(Settings())
    assert yaml.safe_load(folder.read(CONFIG))["place"] == {
        "rate": free.place.rate,
        "threads": free.place.threads,
    }


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (Settings(names=("a", "b")), "names: ['a'] in the folder, ['a', 'b'] now"),
        (Settings(part=Section(rate=1.0)), "part.rate: 0.5 in the folder, 1.0 now"),
        (Settings(whole=CHANGED), "whole.threads: 1 in the folder, 2 now"),
    ],
)
def test_a_setting_that_shapes_results_is_named_with_both_values(tmp_path, other, difference):
    folder = Folder(str(tmp_path))
    check_config(folder, Settings(), OWNER)
    with pytest.raises(ResumeError) as failure:
        check_config(folder, other, OWNER)
    assert str(failure.value).splitlines()[1:] == [f"  {difference}"]
    assert digest(other) != digest(Settings())


def test_a_folder_without_rows_takes_another_config(tmp_path):
    """A first start that failed, for a mistyped model perhaps, does not occupy the folder."""
    folder = Folder(str(tmp_path))
    check_config(folder, Settings(), OWNER)
    other = Settings(names=("a", "b"))
    check_config(folder, other, OWNER, has_rows=lambda: False)
    check_config(folder, other, OWNER)
    with pytest.raises(ResumeError):
        check_config(folder, Settings(), OWNER)
    with pytest.raises(ResumeError, match="generate"):
        check_config(folder, other, Owner("another job"), has_rows=lambda: False)


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        (b"part:\n", b"removed: 3\npart:\n", "removed: 3 in the folder, not set now"),
        (b"names:\n- a\n", b"", "names: not set in the folder, ['a'] now"),
    ],
)
def test_a_setting_that_one_release_alone_has_is_a_difference(tmp_path, before, after, difference):
    folder = Folder(str(tmp_path))
    check_config(folder, Settings(), OWNER)
    folder.write(CONFIG, folder.read(CONFIG).replace(before, after, 1))
    with pytest.raises(ResumeError) as failure:
        check_config(folder, Settings(), OWNER)
    first, *lines = str(failure.value).splitlines()
    assert first.endswith("or the release that made them, which had other settings:")
    assert lines == [f"  {difference}"]


def test_batch_size_is_free_and_precision_is_not():
    config = GenerateConfig()
    assert digest(replace(config, runtime=Runtime(max_batch=7))) == digest(config)
    assert digest(replace(config, runtime=Runtime(dtype="bfloat16"))) != digest(config)


def step(root, guide: str = "round-0/guide/guide") -> GenerateConfig:
    """A run inside another run folder, with a guide from there."""
    return GenerateConfig(run_dir=f"{root}/round-1/traces", reward=Reward(guide=f"{root}/{guide}"))


@pytest.mark.parametrize("relative", [False, True])
def test_runs_inside_a_run_folder_move_with_it(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    before, after = ("a b/ü", "c") if relative else (f"{tmp_path}/a b/ü", f"{tmp_path}/c")
    claim_version(Folder(before))
    first = digest(step(before))
    check_config(Folder(step(before).run_dir), step(before), OWNER)
    shutil.move(tmp_path / "a b" / "ü", tmp_path / "c")
    moved = Folder(step(after).run_dir)
    check_config(moved, step(after), OWNER)
    assert digest(step(after)) == first
    assert yaml.safe_load(moved.read(CONFIG))["reward"]["guide"] == f"{after}/round-0/guide/guide"
    with pytest.raises(
        ResumeError, match=r"reward\.guide: {run}/round-0/guide/guide in the folder"
    ):
        check_config(moved, step(after, guide="round-1/guide/guide"), OWNER)


def test_paths_of_a_run_of_its_own_are_compared_as_given(tmp_path):
    one, other = step(tmp_path / "a"), step(tmp_path / "b")
    check_config(Folder(one.run_dir), one, OWNER)
    assert digest(one) != digest(other)
    with pytest.raises(ResumeError, match=r"reward\.guide: "):
        check_config(Folder(one.run_dir), replace(one, reward=other.reward), OWNER)


DAMAGE = [b"", b"\xff\x00", b"- 1\n- 2\n", b"a: [", b"null", b"1: 2", b"[" * 2000]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_config_is_written_again_or_one_error(tmp_path, content):
    config = GenerateConfig(run_dir=str(tmp_path))
    folder = Folder(str(tmp_path))
    check_config(folder, config, OWNER)
    intact = folder.read(CONFIG)
    folder.write(CONFIG, content)
    with pytest.raises(ResumeError, match=r"config.yaml is damaged, and input.json does not show"):
        check_config(folder, config, OWNER)
    marks = {b"nabla_schema": b"traces/5", b"nabla_config": digest(config).encode()}
    write_expected(folder, Expected(3, marks))
    with pytest.raises(ResumeError, match=r"config.yaml is damaged, and input.json does not show"):
        check_config(folder, replace(config, seed=1), OWNER)
    check_config(folder, config, OWNER)
    assert folder.read(CONFIG) == intact


def test_rows_of_a_release_that_compared_other_settings_are_refused_and_not_set_aside(tmp_path):
    config = GenerateConfig(run_dir=str(tmp_path))
    folder = Folder(str(tmp_path))
    check_config(folder, config, OWNER)
    write_expected(folder, Expected(3, {b"nabla_schema": b"traces/5", b"nabla_config": b"c0ffee"}))
    with pytest.raises(ResumeError, match="holds rows of a release that compared other settings"):
        check_config(folder, config, OWNER)
