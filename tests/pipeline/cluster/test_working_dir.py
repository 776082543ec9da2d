"""A worker resolves relative paths as the driver does."""

import os

from pipeline.cluster.working_dir import enter_working_dir


def test_a_worker_moves_to_the_folder_of_the_driver_if_its_node_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    enter_working_dir(str(tmp_path / "of another node"))
    assert os.getcwd() == "/"
    enter_working_dir(str(tmp_path))
    assert os.getcwd() == str(tmp_path.resolve())
