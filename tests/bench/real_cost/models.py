"""The models of `tests.bench.real_cost`: SmolLM2, or random weights of its shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from nabla_core import Prompt, Runtime
from nabla_core.embedded.weights import model_location
from nabla_core.engines.base import Engines
from nabla_core.engines.loading import build_engines, reader_for
from nabla_core.models.loading import LanguageModel, RewardModel, language_model, reward_model
from nabla_core.types import Identity
from tests.bench.shapes import Size, random_pair

# SmolLM2-135M, as a Qwen2.
SHAPE = Size("smollm2's shape", 576, 30, 9, 3, 1536, 49_152)
TINY = replace(SHAPE, name="tiny", hidden=64, layers=2, heads=2, kv_heads=1, intermediate=128)

_QUESTIONS = (
    "Name three colours.",
    "What is 17 + 25?",
    "Write one sentence that has the words river, lamp and Tuesday in it.",
    "Tom has 3 boxes with 12 pencils in each of them. He gives 7 pencils to Ann and buys 5 more. "
    "How many pencils has Tom now? Explain each step.",
    "Summarise in one sentence: The mill stood at the bend of the river for two hundred years. "
    "It ground corn for four villages, burned twice, and was built again each time from the stones "
    "that were left. Since the bridge was built, nobody has come, and the wheel stands still.",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Models:
    """An LM, a reward model with its body's shape, and the transformers models behind them."""

    name: str
    plain_lm: Any
    plain_rm: Any
    lm: LanguageModel
    rm: RewardModel

    def engines(self, **runtime: Any) -> Engines:
        """Engines with the reward model in both roles."""
        reader = reader_for(self.rm, self.lm, 1.0)
        return build_engines(self.lm, reader, reader, Runtime(**runtime))


def smollm2(device: str, dtype: torch.dtype) -> Models:
    """SmolLM2, and a reward model of its weights with a random score layer."""
    path = model_location("smollm2", "lm")
    torch.manual_seed(0)
    options: dict[str, Any] = {"dtype": dtype}
    lm = AutoModelForCausalLM.from_pretrained(path, **options)
    rm = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, **options)
    return _models("smollm2", lm, rm, AutoTokenizer.from_pretrained(path), device)


def random_weights(device: str, dtype: torch.dtype, size: Size = SHAPE) -> Models:
    """Random weights: responses end nowhere."""
    pair = random_pair(size, device=device, dtype=dtype)
    return _models(size.name, pair.lm, pair.rm, pair.tokenizer, device)


def _models(name: str, lm: Any, rm: Any, tokenizer: Any, device: str) -> Models:
    lm, rm = (model.to(device).eval().requires_grad_(False) for model in (lm, rm))
    return Models(
        name=name,
        plain_lm=lm,
        plain_rm=rm,
        lm=language_model(lm, tokenizer, Identity("lm", name)),
        rm=reward_model(rm, tokenizer, Identity("rm", name)),
    )


def prompts(count: int) -> list[Prompt]:
    """Prompts of mixed lengths, 10 to 90 tokens."""
    return [Prompt.of(_QUESTIONS[i % len(_QUESTIONS)], id=f"q{i}") for i in range(count)]


def prompt_ids(models: Models, count: int) -> list[tuple[int, ...]]:
    """The same prompts as ids: with the chat template, where there is one."""
    found = []
    for index, prompt in enumerate(prompts(count)):
        if models.lm.tokenizer.chat_template:
            text = models.lm.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt.text}],
                add_generation_prompt=True,
                tokenize=False,
            )
            found.append(tuple(models.lm.tokenizer.encode(text, add_special_tokens=False)))
        else:
            generator = torch.Generator().manual_seed(index)
            length = 10 + 20 * (index % 5)
            drawn = torch.randint(0, models.lm.vocabulary - 2, (length,), generator=generator)
            found.append(tuple(drawn.tolist()))
    return found
