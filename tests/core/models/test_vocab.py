"""The map from the tokens of an LM to those of a reward model."""

from __future__ import annotations

import pytest
import torch

from nabla_core.errors import EncodingError, VocabularyError
from nabla_core.models.vocab import VocabularyMap, ids_without_token, map_vocabulary
from tests.core.tiny import characters

LM = characters("abcdef")  # <pad> 0, <eos> 1, <unk> 2, a 3 .. f 8


def mapped(rm: object, *, size: int = 9, rm_size: int = 99, least: float = 0.99) -> VocabularyMap:
    names = ("the-lm", "the-rm")
    return map_vocabulary(LM, rm, size=size, rm_size=rm_size, names=names, min_coverage=least)


def test_identical_vocabularies_keep_their_ids():
    vocabulary = mapped(characters("abcdef"))
    assert vocabulary.ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert vocabulary.coverage == 1.0


def test_a_superset_in_another_order_maps_by_token():
    vocabulary = mapped(characters("xfedcba", bos=True))
    # <pad> <eos> <unk> <bos> x f e d c b a
    assert vocabulary.ids.tolist() == [0, 1, 2, 10, 9, 8, 7, 6, 5]
    assert vocabulary.coverage == 1.0
    assert vocabulary.translate((3, 8, 1)) == [10, 5, 1]


def test_rows_of_a_padded_table_map_to_nothing():
    vocabulary = mapped(characters("abcdef"), size=12)
    assert vocabulary.ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, -1, -1, -1]
    assert vocabulary.coverage == 1.0


def test_tokens_beyond_the_head_are_no_tokens():
    """The first id without a row in the head is `size` itself."""
    vocabulary = mapped(characters("abcdef"), size=8)
    assert vocabulary.ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert vocabulary.coverage == 1.0


def test_tokens_beyond_the_reward_models_table_are_unknown_to_it():
    vocabulary = mapped(characters("abcdef"), rm_size=7, least=0.5)
    assert vocabulary.ids.tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1]
    assert vocabulary.coverage == pytest.approx(7 / 9)


def test_gaps_between_ids_map_to_nothing_and_do_not_count():
    class Gaps:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 1, "<eos>": 6}

    vocabulary = map_vocabulary(
        Gaps(), LM, size=8, rm_size=9, names=("the-lm", "the-rm"), min_coverage=1.0
    )
    assert vocabulary.ids.tolist() == [-1, 3, -1, -1, -1, -1, 1, -1]
    assert vocabulary.coverage == 1.0
    expected = [True, False, True, True, True, True, False, True]
    assert ids_without_token(Gaps(), 8).tolist() == expected
    # A stop id that the tokenizer does not name still ends a response.
    assert ids_without_token(Gaps(), 8, stop={3, 9})[[2, 3, 4]].tolist() == [True, False, True]


def test_a_partial_vocabulary_is_refused_with_the_numbers():
    with pytest.raises(
        VocabularyError,
        match=r"the-rm knows 7 of the 9 tokens of the-lm \(77\.8%\); at least 99\.0% .*coverage",
    ):
        mapped(characters("abcd"))


def test_a_partial_vocabulary_is_taken_above_the_stated_coverage():
    vocabulary = mapped(characters("abcd"), least=0.75)
    assert vocabulary.ids.tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1]
    assert vocabulary.coverage == pytest.approx(7 / 9)


def test_vocabularies_of_different_kinds_are_refused_with_a_word_on_it():
    class Other:
        def get_vocab(self) -> dict[str, int]:
            return {f"##{n}": n for n in range(9)}

    with pytest.raises(VocabularyError, match=r"knows 0 of the 9 .*\(0\.0%\).*different kinds"):
        mapped(Other())


def test_an_untranslatable_token_is_named_with_its_place():
    vocabulary = VocabularyMap(torch.tensor([4, -1, 2]), 2 / 3)
    assert vocabulary.translate((0, 2)) == [4, 2]
    with pytest.raises(EncodingError, match="token 1 at position 2 of the response"):
        vocabulary.translate((0, 2, 1, 1))
