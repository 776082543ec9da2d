"""The training data of the embedded models: chains of the train split, labels, corruptions.

Tensors hold token ids. Prompts are `[B, 17]`. Responses are `[B, 16]`: eight digits, seven
separators and the stop token, with pads after an early stop.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from nabla_core.embedded import task
from nabla_core.embedded.task import DIGITS, OPERATORS, STEPS
from nabla_core.embedded.tokenizer import IDS, PAD_ID, STOP_ID, ZERO_ID, encode

PROMPT_LENGTH = 2 * STEPS + 1
RESPONSE_LENGTH = 2 * STEPS
HARD_PRODUCT_KEPT = 0.03


def train_chains(rng: random.Random, count: int, *, skewed: bool) -> list[str]:
    """`count` prompt texts of the train split; `skewed` as in `skewed_chain`."""
    draw = skewed_chain if skewed else task.chain
    texts: list[str] = []
    while len(texts) < count:
        text = draw(rng)
        if task.split_of(text) == "train":
            texts.append(text)
    return texts


def skewed_chain(rng: random.Random) -> str:
    """A chain in which most products of two digits above 3 are drawn again.

    With the hardest facts rare, an LM learns sooner at which positions the operands are.
    """
    value = rng.randrange(10)
    text = str(value)
    for _ in range(STEPS):
        while True:
            operator, operand = rng.choice(OPERATORS), rng.randrange(10)
            hard = operator == "*" and value >= 4 and operand >= 4
            if not hard or rng.random() < HARD_PRODUCT_KEPT:
                break
        text += f"{operator}{operand}"
        value = task.step(value, operator, operand)
    return text


def encode_prompts(texts: Sequence[str]) -> Tensor:
    """Ids `[B, 17]`."""
    return torch.tensor([encode(text) for text in texts])


def encode_gold(texts: Sequence[str]) -> Tensor:
    """Ids `[B, 16]` of the right responses, stop token included."""
    return encode_responses([task.solve(text) for text in texts])


def encode_responses(responses: Sequence[str]) -> Tensor:
    """Ids `[B, 16]` of responses of eight values, stop token included."""
    return torch.tensor([[*encode(response), STOP_ID] for response in responses])


def right_digits(prompts: Tensor, responses: Tensor) -> Tensor:
    """The right digit `[B, 8]` of each step after the response's own previous value, which need
    not be right itself. -1 where the previous value is no digit."""
    operands = prompts[:, ::2] - ZERO_ID  # [B, 9]
    previous = torch.cat((operands[:, :1], responses[:, :-2:2] - ZERO_ID), 1)
    operators, operands = prompts[:, 1::2], operands[:, 1:]
    value = torch.where(
        operators == IDS["+"],
        previous + operands,
        torch.where(operators == IDS["-"], previous - operands, previous * operands),
    )
    return torch.where((previous >= 0) & (previous < len(DIGITS)), value % 10, -1)


def locally_right(prompts: Tensor, responses: Tensor) -> Tensor:
    """Whether each step `[B, 8]` is right after the response's own previous value."""
    return responses[:, ::2] - ZERO_ID == right_digits(prompts, responses)


def sound_fraction(prompts: Tensor, responses: Tensor) -> Tensor:
    """The fraction `[B]` of steps before the first error; 1 for a right trace."""
    return locally_right(prompts, responses).float().cumprod(1).mean(1)


def corrupt(responses: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Responses with another digit at one random step of the `chosen` rows. Later steps stay as
    they were and so no longer follow."""
    rows = chosen.nonzero().squeeze(1)
    positions = 2 * torch.randint(STEPS, (len(rows),), generator=generator, device=rows.device)
    # A shift of 1 to 9, so that the digit is another one for certain.
    shift = torch.randint(1, 10, (len(rows),), generator=generator, device=rows.device)
    corrupted = responses.clone()
    corrupted[rows, positions] = (responses[rows, positions] - ZERO_ID + shift) % 10 + ZERO_ID
    return corrupted


def scramble(responses: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Responses in which each digit is replaced by a random one with probability `rate`."""
    shape, device = (len(responses), STEPS), responses.device
    replaced = torch.rand(shape, generator=generator, device=device) < rate
    digits = torch.randint(10, shape, generator=generator, device=device) + ZERO_ID
    scrambled = responses.clone()
    scrambled[:, ::2] = torch.where(replaced, digits, responses[:, ::2])
    return scrambled


def truncate(responses: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Responses in which the `chosen` rows end at a random length, without a stop token."""
    kept = torch.randint(
        1, RESPONSE_LENGTH, (len(responses), 1), generator=generator, device=chosen.device
    )
    kept = torch.where(chosen[:, None], kept, RESPONSE_LENGTH)
    return responses.masked_fill(
        torch.arange(RESPONSE_LENGTH, device=chosen.device) >= kept, PAD_ID
    )
