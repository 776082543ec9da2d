"""The last step of a driver, and a run that needs no worker."""

from dataclasses import dataclass

import pytest

from pipeline.errors import LeaseError, PlacementError, RunError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.plan import plan
from pipeline.inputs.prompts import Prompts
from pipeline.run import driver
from pipeline.run.driver import Run
from pipeline.run.plan import open_store
from pipeline.store.files import Folder
from pipeline.store.final import MANIFEST
from pipeline.store.last_error import read_error
from tests.pipeline.rows import inputs, item, row


class Silent:
    def started(self, total, finished, dead): ...
    def on_status(self, status): ...
    def phase(self, text): ...
    def note(self, text): ...


@dataclass
class Lease:
    folder: Folder
    mine: bool
    number: int = 1

    def check(self):
        if not self.mine:
            raise LeaseError("the folder was taken over by another driver")


@pytest.fixture
def finish(tmp_path):
    """Runs the last step over a folder that holds all rows; gives the store."""
    described = plan(GenerateConfig(run_dir=str(tmp_path), prompts=Prompts(limit=2)))
    store = open_store(described)
    store.commit([row(item("a")), row(item("b"), error="E: bad")])

    def with_lease(*, mine):
        store.hold(Lease(store.folder, mine))
        Run(described, Silent(), store)._finish(store.scan(inputs("ab"), 1))

    return store, with_lease


def test_a_run_ends_with_final_files_a_manifest_and_the_marker(finish):
    store, with_lease = finish
    with_lease(mine=True)
    assert store.is_complete()
    assert store.folder.exists(MANIFEST)


def test_a_driver_that_lost_its_lease_does_not_declare_the_run_complete(finish):
    store, with_lease = finish
    with pytest.raises(LeaseError, match="was taken over by another driver"):
        with_lease(mine=False)
    assert not store.is_complete()
    assert not store.folder.exists(MANIFEST)
    assert len(store.parts()) == 1


@pytest.fixture
def run(tmp_path):
    config = GenerateConfig(run_dir=str(tmp_path), max_dead_fraction=0.5)
    described = plan(config)
    return Run(described, Silent(), open_store(described))


def test_a_folder_with_every_row_committed_is_finished_without_ray(tmp_path, monkeypatch):
    config = GenerateConfig(run_dir=str(tmp_path), prompts=Prompts(limit=3))
    described = plan(config)
    store = open_store(described)
    store.commit([row(item) for item in described.read()])
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("Ray was started"))
    monkeypatch.setattr(driver, "connected", lambda *given: pytest.fail("Ray was asked for"))
    assert not store.is_complete()
    outcome = driver.execute(described, Silent())
    assert (outcome.finished, outcome.total, outcome.already_complete) == (3, 3, False)
    assert store.is_complete()
    assert driver.execute(described, Silent()).already_complete


def test_the_error_that_ends_a_run_is_kept_until_the_next_one(tmp_path, monkeypatch):
    described = plan(GenerateConfig(run_dir=str(tmp_path / "run"), prompts=Prompts(limit=2)))

    def ends_with(error):
        def make(run, slots):
            raise error

        monkeypatch.setattr(Run, "_make_missing", make)
        with pytest.raises(type(error)):
            driver.execute(described, Silent())
        return read_error(Folder(described.run_dir))

    assert ends_with(PlacementError("no CPU is free")) == "no CPU is free"
    assert ends_with(LeaseError("another driver has it")) is None
    assert ends_with(RunError("the disk is full")) == "the disk is full"
    assert ends_with(KeyboardInterrupt()) is None
