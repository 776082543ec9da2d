"""Errors of the file system, as the jobs report them."""

import errno

import pytest

from pipeline.errors import RunError, StoreError
from pipeline.store.run_folder import translate_os_errors


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_run_and_not_the_folder(number):
    with pytest.raises(RunError, match=r"run folder runs/x: .*full"), translate_os_errors("runs/x"):
        raise OSError(number, "full")


def test_any_other_error_is_one_of_the_store():
    denied = r"run folder runs/x: .*denied"
    with pytest.raises(StoreError, match=denied), translate_os_errors("runs/x"):
        raise PermissionError(errno.EACCES, "denied")
    with pytest.raises(ValueError, match="not ours"), translate_os_errors("runs/x"):
        raise ValueError("not ours")
