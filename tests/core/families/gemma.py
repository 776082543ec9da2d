"""A Gemma 2 LM and Gemma 2 reward models in folders, as Skywork's are: their embeddings are scaled,
attention scores and logits are capped, and the reward models' pad token ends texts."""

from __future__ import annotations

from pathlib import Path

from nabla_core.embedded import tokenizer as embedded_tokenizer
from tests.core.families.catalogue import GEMMA_CAPS
from tests.core.families.tiny_models import EOS, causal_lm, classifier
from tests.core.tiny import Family, save


def gemma(root: Path) -> Family:
    tokenizer = embedded_tokenizer.build()
    lm = save(root / "lm", causal_lm("gemma2", **GEMMA_CAPS), tokenizer)
    judge, guide = (
        save(
            root / f"rm{seed}",
            classifier("gemma2", seed=seed, pad_token_id=EOS, **GEMMA_CAPS),
            tokenizer,
        )
        for seed in (1, 2)
    )
    return Family(lm, judge, guide)
