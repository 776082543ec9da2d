"""Responses drawn from an enumerated law."""

import torch


def drawn(law: torch.Tensor, prompts: int, count: int, seed: int) -> torch.Tensor:
    """Indices `[prompts, count]` of draws."""
    generator = torch.Generator().manual_seed(seed)
    flat = law.multinomial(prompts * count, replacement=True, generator=generator)
    return flat.reshape(prompts, count)
