"""The last step of a run, without any worker."""

from dataclasses import dataclass

import pytest

from pipeline.errors import LeaseError
from pipeline.generate.config import GenerateConfig
from pipeline.generate.job import plan
from pipeline.inputs.prompts import Prompts
from pipeline.run.driver import Run
from pipeline.run.plan import open_store
from pipeline.store.run_store import MANIFEST
from tests.pipeline.rows import inputs, item, row


class Silent:
    def started(self, total, finished, dead): ...
    def on_status(self, status): ...
    def phase(self, text): ...
    def note(self, text): ...


@dataclass
class Lease:
    mine: bool

    def held(self):
        return self.mine


@pytest.fixture
def finish(tmp_path):
    """Runs the last step over a folder that holds all rows; gives the store."""
    described = plan(GenerateConfig(run_dir=str(tmp_path), prompts=Prompts(limit=2)))
    store = open_store(described)
    store.commit([row(item("a")), row(item("b"), error="E: bad")])

    def with_lease(lease):
        Run(described, Silent(), store)._finish(store.scan(inputs("ab"), 1), lease)

    return store, with_lease


def test_a_run_ends_with_final_files_a_manifest_and_the_marker(finish):
    store, with_lease = finish
    with_lease(Lease(mine=True))
    assert store.done()
    assert store.folder.exists(MANIFEST)


def test_a_driver_that_lost_its_lease_does_not_declare_the_run_complete(finish):
    store, with_lease = finish
    with pytest.raises(LeaseError, match="was taken over by another driver"):
        with_lease(Lease(mine=False))
    assert not store.done()
    assert not store.folder.exists(MANIFEST)
    assert len(store.parts()) == 1
