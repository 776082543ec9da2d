"""`runtime.dtype: auto` is decided once a run, kept in its folder, and checked on every node."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nabla_core.errors import ModelError
from nabla_core.model_config import LM, Reward, Runtime
from nabla_core.models import dtype as rule
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.run.dtype import ResolvedRuntime, require_same_dtype, resolve_runtime
from pipeline.run.models import open_engines
from pipeline.run.plan import open_store
from pipeline.store.checks.config_check import check_config
from pipeline.train_guide.config import Data, TrainGuideConfig
from pipeline.train_guide.ready import resolved

FLAGS = "flags : fpu {}\n"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Sets the features of this machine's CPU; the embedded models count as large."""
    monkeypatch.setattr(rule, "SMALL_BYTES", 0)
    monkeypatch.setattr(rule, "_CPU_INFO", tmp_path / "cpuinfo")

    def has(features: str) -> None:
        (tmp_path / "cpuinfo").write_text(FLAGS.format(features))

    return has


def config(tmp_path: Path, **runtime: str) -> GenerateConfig:
    settings = Runtime(device="cpu", **runtime)  # type: ignore[arg-type]
    return GenerateConfig(run_dir=str(tmp_path / "run"), runtime=settings)


def test_a_run_keeps_the_type_that_it_began_with(machine, tmp_path: Path):
    machine("amx_bf16")
    first = plan(config(tmp_path))
    assert first.config.runtime.dtype == first.recipe.runtime.dtype == "bfloat16"
    assert "runtime.dtype=bfloat16: the models are not small, and the hardware computes it" in (
        first.notes
    )
    store = open_store(first)
    check_config(store.folder, first.config, first.owner)
    stored = yaml.safe_load(Path(first.run_dir, "config.yaml").read_text())
    assert stored["runtime"]["dtype"] == "bfloat16"

    machine("avx2")  # resumed on an older machine
    again = plan(config(tmp_path))
    assert again.config.runtime.dtype == "bfloat16"
    assert again.config_hash == first.config_hash
    # The same type by name is the same run.
    assert plan(config(tmp_path, dtype="bfloat16")).config_hash == first.config_hash


def test_a_node_that_would_choose_another_type_is_refused(machine, tmp_path: Path):
    machine("amx_bf16")
    runtime = pickle.loads(pickle.dumps(plan(config(tmp_path)).recipe.runtime))
    open_engines(LM(), Reward(), runtime)
    machine("avx2")  # the recipe is opened on another node
    with pytest.raises(ModelError) as caught:
        open_engines(LM(), Reward(), runtime)
    assert str(caught.value) == (
        "runtime.dtype: auto became bfloat16 for this run, and on this node (cpu) it would be "
        "float32: rows of both types would be mixed. Use nodes of one kind, or set "
        "runtime.dtype=bfloat16 for all of them"
    )
    # A type that the user named is used everywhere.
    open_engines(LM(), Reward(), replace(Runtime(device="cpu"), dtype="bfloat16"))


def test_on_a_cluster_the_actors_gpus_decide_and_each_checks_its_own(machine, tmp_path: Path):
    machine("avx2")  # the head, which has no GPU
    folder = str(tmp_path / "run")
    runtime, _ = resolve_runtime(Runtime(), folder, ["owner/model"], gpus=1.0, cluster=True)
    assert isinstance(runtime, ResolvedRuntime)
    assert runtime.dtype == "bfloat16"
    with pytest.raises(ModelError, match=r"on this node \(cpu\) it would be float32"):
        require_same_dtype(runtime, "cpu", ["owner/model"])


def test_small_and_scripted_models_are_float32_and_nothing_is_said(tmp_path: Path):
    embedded = plan(config(tmp_path))
    scripted = plan(replace(config(tmp_path), lm=LM("scripted?seconds=0")))
    assert embedded.config.runtime.dtype == scripted.config.runtime.dtype == "float32"
    assert not [note for note in embedded.notes if "dtype" in note]


def test_a_training_decides_once_too(machine, tmp_path: Path):
    machine("amx_bf16")
    training = TrainGuideConfig(run_dir=str(tmp_path / "guide"), data=Data(("x",)))
    found, _ = resolved(training)
    assert found.optimise.dtype == "bfloat16"
    named = replace(training, optimise=replace(training.optimise, dtype="float32"))
    assert resolved(named)[0].optimise.dtype == "float32"
