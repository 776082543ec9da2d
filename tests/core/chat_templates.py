"""Chat templates with the traits that those of well-known models have, written for these tests, and
tokenizers that can read them."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from tests.core.tiny import characters

TURNS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n.,:;?!+-*=<>|/'#[]_"

# As that of Qwen3: an answer gets a think block, with the reasoning that it begins with or empty.
THINKING = """
{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}
    {%- set content = message.content -%}
    {%- set reasoning = '' -%}
    {%- if '</think>' in content -%}
      {%- set reasoning = content.split('</think>')[0].split('<think>')[-1] -%}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
    {%- endif -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if loop.last -%}
      {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' -}}
    {%- endif -%}
    {{- content + '<|im_end|>\\n' -}}
  {%- else -%}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

# As that of DeepSeek-R1: reasoning is left out of every answer, and asked for of the LM.
FORGETTING = """
{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}
    {{- '<|im_start|>assistant\\n' + message.content.split('</think>')[-1] + '<|im_end|>' -}}
  {%- else -%}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n<think>\\n' -}}
{%- endif -%}
"""

# As that of Llama 3.1: a system turn with the date of today, contents without spaces around them.
DATED = """
{%- if not date_string is defined -%}
  {%- if strftime_now is defined -%}
    {%- set date_string = strftime_now('%d %b %Y') -%}
  {%- else -%}
    {%- set date_string = '26 Jul 2024' -%}
  {%- endif -%}
{%- endif -%}
{{- '<|im_start|>system\\nToday Date: ' + date_string + '<|im_end|>' -}}
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

# As that of Gemma: no system turn, and turns that alternate.
NO_SYSTEM = """
{%- if messages[0].role == 'system' -%}
  {{- raise_exception('System role not supported') -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant') -}}
  {%- endif -%}
  {%- set role = 'model' if message.role == 'assistant' else message.role -%}
  {{- '<|im_start|>' + role + '\\n' + message.content | trim + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>model\\n' -}}
{%- endif -%}
"""

PLAIN = """
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def chat_tokenizer(template: Any) -> PreTrainedTokenizerFast:
    """One token a character, and one for each tag and mark of a turn."""
    return characters(LETTERS, more=TURNS, template=template)


def metaspace(template: str | None, *, scheme: str = "always") -> PreTrainedTokenizerFast:
    """A tokenizer as those of Llama 2 and Mistral: a space is written as ▁, and one is put in front
    of the text (`first`) or of every piece of it between special tokens (`always`)."""
    special = ["<unk>", "<s>", "</s>"]
    tokens = [*special, "▁", "\n", *LETTERS.replace(" ", "").replace("\n", "")]
    vocab = {token: n for n, token in enumerate(tokens)}
    merged = [("▁", letter) for letter in "abcdex5"]
    vocab |= {"".join(pair): len(tokens) + n for n, pair in enumerate(merged)}
    core = Tokenizer(BPE(vocab=vocab, merges=merged, unk_token="<unk>", fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    core.decoder = decoders.Metaspace(prepend_scheme=scheme)
    core.add_special_tokens([AddedToken(token, special=True) for token in special])
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    made.chat_template = template
    return made


def prepending(template: str | None) -> PreTrainedTokenizerFast:
    """The older form of the same: the space is put in front by a normaliser."""
    made = metaspace(template)
    core = made.backend_tokenizer
    core.pre_tokenizer = None
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return made


def appending(letters: str, *, bos: bool) -> PreTrainedTokenizerFast:
    """A tokenizer that ends every text with its eos token."""
    made = characters(letters, bos=bos)
    ends = [("<eos>", 1), *([("<bos>", 3)] if bos else [])]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>" if bos else "$A <eos>", special_tokens=ends
    )
    return made
