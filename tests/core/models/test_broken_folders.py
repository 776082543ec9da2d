"""Model folders that are damaged or not what they say: one error names the file or the keys."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core import Prompt
from nabla_core.engines.text import TextEngine
from nabla_core.errors import EncodingError, ModelError
from nabla_core.models.loading import load_language_model, load_reward_model
from nabla_core.models.pretrained import load_config, load_tokenizer
from nabla_core.requests import Render
from tests.core.tiny import Family, characters, qwen2, save

CPU: dict[str, Any] = {"revision": None, "device": torch.device("cpu"), "dtype": torch.float32}
TOKENIZER = characters("abcdef")


@pytest.fixture
def copy(plain: Family, tmp_path: Path) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(plain.lm, tmp_path / "lm"))


def edit(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"\x00\xff\x00", b'{"half":'], ids=repr)
@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"],
)
def test_a_file_that_is_no_json_object_is_named(
    copy: Callable[[], Path], name: str, content: bytes
):
    folder = copy()
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{folder / name}: (this is no JSON|a JSON object was)"):
        load_language_model(str(folder), **CPU)


def test_an_empty_tokenizer_is_named(copy: Callable[[], Path]):
    folder = copy()
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=rf"{folder}/tokenizer\.json: .* no entry 'model'"):
        load_tokenizer(str(folder), None)


def test_a_tokenizer_without_its_vocabulary_is_refused(copy: Callable[[], Path]):
    folder = copy()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=rf"{folder}: its tokenizer has no vocabulary: none of"):
        load_tokenizer(str(folder), None)


@pytest.mark.parametrize(
    "entries",
    [{"hidden_size": "wide"}, {"num_attention_heads": 0}, {"model_type": None}],
    ids=str,
)
def test_a_config_that_makes_no_model_is_an_error_of_its_folder(
    copy: Callable[[], Path], entries: dict[str, Any]
):
    folder = copy()
    edit(folder / "config.json", **entries)
    with pytest.raises(ModelError, match=str(folder)):
        load_language_model(str(folder), **CPU)


def test_a_tokenizer_of_no_known_kind_is_an_error_of_its_folder(copy: Callable[[], Path]):
    folder = copy()
    edit(folder / "tokenizer.json", model={"type": "NoSuchKind"})
    with pytest.raises(ModelError, match=rf"{folder}: cannot load its tokenizer"):
        load_tokenizer(str(folder), None)


@pytest.mark.parametrize("size", [0, 5, 1000, -1])
def test_a_cut_weight_file_is_named(copy: Callable[[], Path], size: int):
    folder = copy()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ModelError, match=rf"{weights}: cannot be read, is it cut"):
        load_language_model(str(folder), **CPU)


def test_a_lacking_shard_is_named(plain: Family, tmp_path: Path):
    model = plain.raw("lm")
    folder = tmp_path / "lm"
    model.save_pretrained(folder, max_shard_size="8KB")
    TOKENIZER.save_pretrained(folder)
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(
        ModelError, match=rf"{folder}/model\.safetensors\.index\.json names {shard.name}"
    ):
        load_language_model(str(folder), **CPU)


def three_layers(folder: Path, kind: Any, **more: Any) -> Path:
    """A model of three layers under a config of two."""
    save(folder, kind(qwen2(9, num_hidden_layers=3, **more)), TOKENIZER)
    edit(folder / "config.json", num_hidden_layers=2, layer_types=["full_attention"] * 2)
    return folder


def test_layers_beyond_the_config_are_named(tmp_path: Path):
    lm = three_layers(tmp_path / "lm", Qwen2ForCausalLM)
    key = r"model\.layers\.2\.input_layernorm\.weight, .* and 9 more"
    with pytest.raises(ModelError, match=rf"{lm} is not a CausalLM: .* no place for: {key}"):
        load_language_model(str(lm), **CPU)
    judge = three_layers(tmp_path / "rm", Qwen2ForSequenceClassification, num_labels=1)
    with pytest.raises(ModelError, match=rf"{judge} is not .* no place for: {key}"):
        load_reward_model(str(judge), **CPU)


def test_layers_that_the_config_asks_for_and_weights_lack_are_named(copy: Callable[[], Path]):
    folder = copy()
    edit(folder / "config.json", num_hidden_layers=3, layer_types=["full_attention"] * 3)
    with pytest.raises(ModelError, match=rf"{folder} .*weights lack model\.layers\.2\..*9 more"):
        load_language_model(str(folder), **CPU)


def test_weights_of_other_shapes_are_named(copy: Callable[[], Path]):
    folder = copy()
    edit(folder / "config.json", intermediate_size=40)
    named = r"other shapes .*layers\.0\.mlp\.down_proj\.weight \[32, 48\] for \[32, 40\]"
    with pytest.raises(ModelError, match=rf"{folder} .*{named}"):
        load_language_model(str(folder), **CPU)


def test_a_reward_model_may_keep_the_head_of_the_lm_that_it_was(tmp_path: Path):
    torch.manual_seed(0)
    model = Qwen2ForSequenceClassification(qwen2(9, num_labels=1))
    folder = save(tmp_path / "rm", model, TOKENIZER)
    lm = Qwen2ForCausalLM(qwen2(9))
    lm.model = model.model
    lm.save_pretrained(tmp_path / "both", state_dict={**lm.state_dict(), **model.state_dict()})
    shutil.copy(tmp_path / "both" / "model.safetensors", folder)
    loaded = load_reward_model(str(folder), **CPU)
    assert torch.equal(loaded.score.weight, model.score.weight)


@pytest.mark.parametrize("key", ["AutoModelForCausalLM", "AutoConfig", "AutoModel"])
def test_a_model_with_code_of_its_own_is_refused(copy: Callable[[], Path], key: str):
    """transformers knows the type, and would load its own class without a word."""
    folder = copy()
    edit(folder / "config.json", auto_map={key: "modeling_own.OwnModel"})
    (folder / "modeling_own.py").write_text("raise SystemExit('this code was run')")
    named = r"its config names code of its own \(auto_map: modeling_own\.OwnModel\)"
    for load in (load_language_model, load_reward_model):
        with pytest.raises(ModelError, match=rf"{folder}: {named}"):
            load(str(folder), **CPU)
    with pytest.raises(ModelError, match=named):
        load_config(str(folder), None)


@pytest.mark.parametrize("known", [True, False])
def test_a_tokenizer_with_code_of_its_own_is_refused(
    copy: Callable[[], Path], known: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("asked on stdin"))
    folder = copy()
    kind = {} if known else {"tokenizer_class": "OwnTokenizer"}
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, **kind)
    (folder / "own.py").write_text("raise SystemExit('this code was run')")
    with pytest.raises(ModelError, match=rf"{folder}: .*(auto_map: own\.Own|code)"):
        load_tokenizer(str(folder), None)


def test_a_type_that_only_its_own_code_knows_is_refused(
    copy: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("asked on stdin"))
    folder = copy()
    edit(folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own"})
    with pytest.raises(ModelError, match=str(folder)):
        load_language_model(str(folder), **CPU)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "fp8"])
def test_quantized_weights_are_refused_by_name(copy: Callable[[], Path], method: str):
    folder = copy()
    edit(folder / "config.json", quantization_config={"quant_method": method})
    with pytest.raises(ModelError, match=rf"{folder}: its weights are quantized \({method}\)"):
        load_language_model(str(folder), **CPU)


def test_a_tokenizer_larger_than_the_table_is_refused(tmp_path: Path):
    lm = save(tmp_path / "lm", Qwen2ForCausalLM(qwen2(7)), TOKENIZER)
    told = r"does not fit the model: 2 of its tokens .* 7 rows, the first is 'e' \(id 7\)"
    with pytest.raises(ModelError, match=rf"{lm}: .*{told}"):
        load_language_model(str(lm), **CPU)
    judge = save(tmp_path / "rm", Qwen2ForSequenceClassification(qwen2(7, num_labels=1)), TOKENIZER)
    with pytest.raises(ModelError, match=rf"{judge}: .*{told}"):
        load_reward_model(str(judge), **CPU)


def test_a_special_token_beyond_the_table_is_an_error_of_the_prompt_that_has_it(tmp_path: Path):
    """As of text models whose tokenizer has an image token."""
    tokenizer = characters("abcdef")
    size = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    assert tokenizer.convert_tokens_to_ids("<image>") == size
    lm = save(tmp_path / "lm", Qwen2ForCausalLM(qwen2(size)), tokenizer)
    judge = save(
        tmp_path / "rm", Qwen2ForSequenceClassification(qwen2(size, num_labels=1)), tokenizer
    )
    language, reward = load_language_model(str(lm), **CPU), load_reward_model(str(judge), **CPU)
    engine = TextEngine(language, reward, reward)
    engine.submit(0, Render(Prompt.of("a", id="fine")))
    picture = replace(Prompt.of("a<image>", id="picture"), allow_special_tokens=True)
    engine.submit(1, Render(picture))
    fine, refused = (result for _, result in engine.step())
    assert fine.value.lm == tuple(language.tokenizer.encode("a"))
    assert isinstance(refused, EncodingError)
    assert f"prompt picture has token {size}, which is not in a table" in str(refused)


# These load no code, whatever a folder holds.
WITHOUT_CODE = ("GenerationConfig", "PeftModel")


def test_nothing_is_loaded_without_saying_that_its_code_is_not_run():
    root = Path(__file__).resolve().parents[3]
    calls = [
        (str(file.relative_to(root)), call)
        for room in ("nabla_core", "pipeline", "jobs")
        for file in sorted((root / room).rglob("*.py"))
        for call in _calls(file.read_text())
        if not call.startswith(WITHOUT_CODE)
    ]
    assert len(calls) >= 3
    assert [file for file, call in calls if "trust_remote_code=False" not in call] == []


def _calls(source: str) -> list[str]:
    """The source of every call of a `from_pretrained`."""
    return [
        ast.get_source_segment(source, node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
    ]
