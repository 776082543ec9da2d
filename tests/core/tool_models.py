"""Tiny random models whose chat template takes tools, and prompts with tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2ForCausalLM

from tests.core.tiny import characters, qwen2, reward_folder, save

# As that of Qwen3: schemas and calls as JSON.
TOOLS = """
{%- if tools -%}
  {{- '<|im_start|>system\\n' -}}
  {%- for tool in tools -%}{{- tool | tojson + '\\n' -}}{%- endfor -%}
  {{- '<tool_call>{...}</tool_call><|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\\n' + message.content -}}
  {%- for call in message.tool_calls or [] -%}
    {{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' -}}
    {{- call.function.arguments | tojson + '}</tool_call>' -}}
  {%- endfor -%}
  {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
LETTERS = "\n" + "".join(map(chr, range(32, 127)))
TURN = ("<|im_start|>", "<|im_end|>")

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number", "minimum": 0.5}}},
    },
}
USER = {"role": "user", "content": "1+1?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
CALLED: list[dict[str, Any]] = [
    USER,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "2", "name": "add", "tool_call_id": "c1"},
]


def tokenizer(template: str = TOOLS) -> PreTrainedTokenizerFast:
    """One token a character, so that a text has one encoding."""
    return characters(LETTERS, more=TURN, template=template)


def lm_folder(path: Path, template: str = TOOLS) -> Path:
    """An LM that writes letters and soon ends its turn."""
    made = tokenizer(template)
    torch.manual_seed(5)
    model = Qwen2ForCausalLM(qwen2(len(made), max_position_embeddings=1024))
    stop = made.convert_tokens_to_ids(TURN[1])
    with torch.no_grad():
        ids = torch.tensor([made.encode("a question? " * 4)])
        mean = model.model(ids).last_hidden_state[0].mean(0)
        rows = model.lm_head.weight
        rows.zero_()
        rows[stop] = 3.0 * mean / mean.norm() ** 2
        # Of the special tokens it writes that one alone.
        rows[[n for n in made.all_special_ids if n != stop]] = -50.0 * mean / mean.norm() ** 2
    save(path, model, made)
    GenerationConfig(eos_token_id=[1, stop]).save_pretrained(path)
    return path


def judge_folder(path: Path, template: str = TOOLS) -> Path:
    made = tokenizer(template)
    config = qwen2(len(made), num_labels=1, max_position_embeddings=1024)
    return reward_folder(path, config, made, seed=6)


def prompts_file(path: Path) -> Path:
    """Three prompts: without tools, with them, and with calls in earlier turns."""
    rows = [
        {"id": "none", "prompt": "a question?", "answer": "2"},
        {"id": "tools", "messages": [USER], "tools": [ADD, {"name": "now"}], "answer": "2"},
        {"id": "called", "messages": CALLED, "tools": json.dumps([ADD]), "answer": "2"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
