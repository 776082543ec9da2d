"""A complete dataset folder onto the Hugging Face hub, or a server with its interface."""

from __future__ import annotations

from typing import Any

from pipeline.errors import InputError, RunError
from pipeline.export.folder import read_export
from pipeline.store.files import LEASE, Folder
from pipeline.store.lease import STAGING


def check_local(out: str) -> None:
    """Raises InputError where a folder is not on a disk of this machine."""
    if not Folder(out).local:
        raise InputError(f"--push takes a local out, and {out} is not: export to a disk")


def push(out: str, repo: str, *, public: bool = False) -> str:
    """Upload the folder as the dataset `repo`; returns its address. A repository that is missing
    is made, a private one unless `public`.

    The server is that of huggingface_hub (`HF_ENDPOINT`), and so is the token. Raises InputError
    where the folder is not complete or not local, and RunError where the server refuses.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - it takes a second to import
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    # The base of all errors of the HTTP client, which one it is depends on the library's version.
    client_error: Any = HfHubHTTPError.__mro__[1]
    check_local(out)
    read_export(out, check_files=True)
    api = HfApi()
    try:
        api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=Folder(out).root,
            commit_message="Upload dataset",
            ignore_patterns=[f"{LEASE}/*", f"{STAGING}/*"],
        )
    except HFValidationError as error:
        raise InputError(f"--push {repo}: {error}") from error
    # KeyError, ValueError: a server that answers something else than the hub does.
    except (client_error, OSError, KeyError, ValueError) as error:
        raise RunError(
            f"cannot push {out} to {repo} on {api.endpoint}: {error}. The folder is complete: give "
            "the command again to push it"
        ) from error
    return str(commit.commit_url)
