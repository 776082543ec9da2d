"""Texts of token ids, without torch."""

import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from nabla_core.embedded.tokenizer import STOP_ID, build, encode
from pipeline.errors import ConfigError
from pipeline.report.tokens import TokenTexts, run_tokens, token_texts
from pipeline.store.files import Folder
from tests.pipeline.export.runs import FINGERPRINT


def byte_level():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_tokens_of_one_character_have_its_text_together():
    tokenizer = byte_level()
    ids = tokenizer.encode("a€b").ids
    assert len(ids) == 5
    pieces = TokenTexts(tokenizer).pieces(np.array(ids), [len(ids)])
    assert pieces[",".join(map(str, ids[1:4]))] == "€"
    assert (pieces[str(ids[0])], pieces[str(ids[4])]) == ("a", "b")


def test_half_a_character_at_the_end_stays_half():
    tokenizer = byte_level()
    ids = tokenizer.encode("€").ids[:2]
    assert set(TokenTexts(tokenizer).pieces(np.array(ids), [len(ids)])) == {str(i) for i in ids}


def test_a_character_does_not_reach_into_the_next_sequence():
    tokenizer = byte_level()
    half, rest = tokenizer.encode("€").ids[:2], tokenizer.encode("€").ids[2:]
    pieces = TokenTexts(tokenizer).pieces(np.array([*half, *rest]), [2, 1])
    assert set(pieces) == {str(i) for i in (*half, *rest)}


def test_an_id_that_the_tokenizer_does_not_know_has_no_text():
    tokenizer = byte_level()
    end = tokenizer.get_vocab_size()
    assert set(TokenTexts(tokenizer).pieces(np.array([-1, 0, end, 10**6]), [4])) == {"0"}


def test_the_spaces_of_sentencepiece_are_kept():
    vocab = {"<unk>": 0, "▁the": 1, "re": 2, "▁": 3}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    assert TokenTexts(tokenizer).pieces(np.array([1, 2, 3]), [3]) == {
        "1": " the", "2": "re", "3": " "
    }  # fmt: skip


def test_the_shipped_tokenizer_is_found_by_its_name_in_the_config(tmp_path):
    (tmp_path / "config.yaml").write_text("lm: {path: embedded, revision: null}\n")
    tokens = run_tokens(Folder(str(tmp_path)))
    assert tokens.fingerprint == FINGERPRINT
    assert tokens.text([*encode("1;2"), STOP_ID], special=False) == "1;2"
    assert tokens.text([STOP_ID]) == build().eos_token
    assert STOP_ID in tokens.special


@pytest.mark.parametrize("path", ["no/such/folder", "nobody/nothing", "${oc.env:LM}", "a/b/c/d"])
def test_a_tokenizer_that_is_not_there_is_none(tmp_path, path):
    (tmp_path / "config.yaml").write_text(f"lm: {{path: '{path}', revision: null}}\n")
    assert run_tokens(Folder(str(tmp_path))) is None


def test_a_damaged_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizer\.json is no tokenizer"):
        token_texts(str(tmp_path), None)


def test_no_torch_is_imported():
    script = (
        "import sys, pipeline.report.pick, pipeline.report.tokens; print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
