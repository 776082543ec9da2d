"""Models small enough to enumerate: V = 8 tokens, T = 4 of them, S = V^T = 4,096 responses.

The LM and the reward model are real Qwen2 models, so the library's engines, TRL and plain torch
all run on them. Every number they can give is tabulated once, in float64: the law, the reward,
and the gradient rows of both at every position of every response. The index of a response
y_1..y_4 is the number with these digits in base 8, first digit first.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from pipeline.duality.frontier import RegularisedProblem

V, T = 8, 4
STATES = V**T
LETTERS = "abcdefgh"
PROMPT = 0
# Ids of tokens the models do not have: responses end by their length alone.
PAD, STOP = 8, 9


def digits(count: int = T) -> Tensor:
    """All sequences of `count` tokens, int64 `[V^count, count]`, in the order of their index."""
    numbers = torch.arange(V**count)
    return torch.stack([numbers // V ** (count - 1 - t) % V for t in range(count)], -1)


def number(sequences: Tensor) -> Tensor:
    """The index `[...]` of each sequence `[..., T]`."""
    weights = torch.tensor([V ** (T - 1 - t) for t in range(T)])
    return (sequences * weights).sum(-1)


@dataclass(frozen=True, eq=False, kw_only=True)
class EnumeratedModels:
    """One LM and one reward model with their tables.

    `conditionals` `[S, T, V]`: log p(. | y_<t) along each response. `problem`: log p(y) and
    r(y), `[S]`. `likelihood_rows` and `reward_rows` `[S, T, V]`: the gradients of log p(y) and
    r(y) with respect to the one-hot of each token. All are float64. The norms inside the
    models run in float32, so the tables agree with the models to seven digits; the tabulated
    law itself adds up to 1 to sixteen digits.
    """

    lm: Qwen2ForCausalLM
    rm: Qwen2ForSequenceClassification
    problem: RegularisedProblem
    conditionals: Tensor
    likelihood_rows: Tensor
    reward_rows: Tensor

    def loss_rows(self, reward_coeff: float, nll_coeff: float) -> Tensor:
        """Gradient rows `[S, T, V]` of the library's loss -(nll_coeff log p + reward_coeff r)."""
        return -(nll_coeff * self.likelihood_rows + reward_coeff * self.reward_rows)

    def policy(self) -> Qwen2ForCausalLM:
        """A fresh copy of the LM, to be trained."""
        policy = copy.deepcopy(self.lm)
        policy.requires_grad_(True)
        return policy


def random_models(seed: int) -> EnumeratedModels:
    """Models with random weights; the reward has mean 0 and standard deviation 1 under the LM."""
    # The weights are drawn from the global generator, which is restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lm = Qwen2ForCausalLM(_config(hidden_size=32)).eval().requires_grad_(False)
        rm = Qwen2ForSequenceClassification(_config(hidden_size=16, num_labels=1))
        rm.eval().requires_grad_(False)
    # The reward head gets a bias, so that the mean can be subtracted inside the model.
    head = nn.Linear(16, 1)
    head.weight.data.copy_(rm.score.weight.data)
    head.bias.data.zero_()
    rm.score = head.requires_grad_(False)
    conditionals, likelihood_rows = _likelihoods(copy.deepcopy(lm).double())
    log_ref = conditionals.gather(-1, digits()[..., None]).sum((1, 2))
    raw, _ = _rewards(copy.deepcopy(rm).double())
    mean = float(log_ref.exp() @ raw)
    # Standardised rewards: beta and gaps have the same meaning with every seed.
    deviation = float((log_ref.exp() @ (raw - mean) ** 2).sqrt())
    head.weight.data.div_(deviation)
    head.bias.data.fill_(-mean / deviation)
    reward, reward_rows = _rewards(copy.deepcopy(rm).double())
    return EnumeratedModels(
        lm=lm,
        rm=rm,
        problem=RegularisedProblem(log_ref, reward),
        conditionals=conditionals,
        likelihood_rows=likelihood_rows,
        reward_rows=reward_rows,
    )


def log_law(lm: Any) -> Tensor:
    """log p(y) `[S]` under an LM; differentiable in its weights.

    Each row of the batch holds the prompt, T - 2 tokens, and all V tokens that can follow them.
    The V alternatives have the same position; each attends to the prefix and to itself. This
    takes a third of the tokens that one row for each prefix of T - 1 tokens would take.
    """
    prefixes = digits(T - 2)
    alternatives = torch.arange(V).expand(len(prefixes), V)
    ids = torch.cat([torch.full((len(prefixes), 1), PROMPT), prefixes, alternatives], 1)
    positions = torch.arange(T - 1 + V).clamp(max=T - 1)
    visible = positions[None, :] < positions[:, None]
    visible.fill_diagonal_(True)
    dtype = lm.get_input_embeddings().weight.dtype
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    output = lm(
        input_ids=ids,
        attention_mask=mask[None, None].expand(len(prefixes), 1, -1, -1),
        position_ids=positions[None].expand(len(prefixes), -1),
        use_cache=False,
    )
    log_p = output.logits.log_softmax(-1)
    # [V^(T-2), V, V]: the last two tokens; the terms of the prefix are added to all of them.
    total = log_p[:, T - 1 :]
    for t in range(T - 2):
        total = total + log_p[:, t].gather(-1, prefixes[:, t, None])[..., None]
    return (total + log_p[:, T - 2, :, None]).flatten()


def _likelihoods(lm: Any) -> tuple[Tensor, Tensor]:
    """Conditionals, and the gradient rows of log p(y), both `[S, T, V]`.

    A one-hot changes log p(y) in two ways: it selects its own log-probability, and its
    embedding is an input of the tokens after it.
    """
    table = lm.get_input_embeddings().weight
    y = digits()
    ids = torch.cat([torch.full((STATES, 1), PROMPT), y[:, :-1]], 1)
    embedded = table[ids].detach().requires_grad_()
    log_p = lm(inputs_embeds=embedded, use_cache=False).logits.log_softmax(-1)
    total = log_p.gather(-1, y[..., None]).sum()
    (gradient,) = torch.autograd.grad(total, embedded)
    conditionals = log_p.detach()
    rows = conditionals.clone()
    rows[:, :-1] += gradient[:, 1:] @ table.detach().T
    return conditionals, rows


def _rewards(rm: Any) -> tuple[Tensor, Tensor]:
    """Rewards `[S]`, and their gradient rows `[S, T, V]`."""
    table = rm.get_input_embeddings().weight
    ids = torch.cat([torch.full((STATES, 1), PROMPT), digits()], 1)
    embedded = table[ids].detach().requires_grad_()
    # The reward is read at the last token; no padding, since all responses are equally long.
    hidden = rm.model(inputs_embeds=embedded, use_cache=False).last_hidden_state[:, -1]
    rewards = rm.score(hidden).squeeze(-1)
    (gradient,) = torch.autograd.grad(rewards.sum(), embedded)
    return rewards.detach(), gradient[:, 1:] @ table.detach().T


def tokenizer() -> PreTrainedTokenizerFast:
    """One letter for each token, and a pad and a stop token, which are not in the vocabularies
    of the models."""
    vocabulary = {letter: i for i, letter in enumerate(LETTERS)} | {"<pad>": PAD, "<eos>": STOP}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        clean_up_tokenization_spaces=False,
    )


def save_lm(lm: Any, folder: Path) -> None:
    """Save the LM as a folder that transformers and TRL can load."""
    lm.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def _config(*, hidden_size: int, **extra: Any) -> Qwen2Config:
    config = Qwen2Config(
        vocab_size=V,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16,
        initializer_range=0.25,
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        dtype="float32",
        **extra,
    )
    # Eager attention takes the 4-D mask of `log_law` as it is.
    config._attn_implementation = "eager"
    return config
