"""Errors that another attempt would repeat travel through the run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from nabla_core.errors import HeadError, ModelError, PromptError
from pipeline.errors import InputError, ResumeError, RunError, StoreError
from pipeline.store.files import Folder
from pipeline.training.failure import clear_failure, has_failed, raise_failure, write_failure


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("row 3"), InputError),
        (ResumeError("other inputs"), StoreError),
        (HeadError("no head"), ModelError),
        (PromptError("too long"), RunError),
    ],
)
def test_a_failure_is_raised_as_its_kind_until_it_is_cleared(
    tmp_path: Path, error: Exception, kind: type[Exception]
):
    folder = Folder(str(tmp_path))
    raise_failure(folder)
    assert not has_failed(folder)
    write_failure(folder, error)
    assert has_failed(folder)
    with pytest.raises(kind, match=str(error)) as raised:
        raise_failure(folder)
    assert type(raised.value) is kind
    clear_failure(folder)
    clear_failure(folder)
    raise_failure(folder)
