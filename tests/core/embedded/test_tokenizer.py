"""One token for each character, also through transformers."""

from __future__ import annotations

from nabla_core.embedded import tokenizer
from tests.core.embedded.test_task import CHAIN


def test_tokenizer_round_trip():
    fast = tokenizer.build()
    ids = fast(CHAIN).input_ids
    assert ids == tokenizer.encode(CHAIN)
    assert len(ids) == len(CHAIN)
    assert fast.decode(ids) == tokenizer.decode(ids) == CHAIN
    assert fast.decode([*ids, fast.eos_token_id], skip_special_tokens=True) == CHAIN
    assert len(fast) == tokenizer.VOCABULARY == 24
    assert len({fast.pad_token_id, fast.eos_token_id, fast.unk_token_id}) == 3
    assert fast.bos_token_id is None
    assert fast.chat_template is None
