"""Reading an arm's responses with models: the work of one `ReadingTask`. It imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from nabla_core.embedded.weights import model_location
from nabla_core.engines.base import Engine, Engines
from nabla_core.engines.divergence import DivergenceEngine, Law
from nabla_core.engines.loading import (
    AdvantageGuide,
    device_of,
    load_guide,
    model_paths,
    reader_for,
    torch_dtype,
)
from nabla_core.engines.score import ScoreEngine
from nabla_core.engines.text import TextEngine
from nabla_core.model_config import LM, Reward
from nabla_core.models.loading import LanguageModel, load_language_model, load_reward_model
from nabla_core.requests import (
    Decode,
    Diverge,
    Divergence,
    Judged,
    Render,
    RequestGenerator,
    Score,
    ask,
    ask_readable,
)
from nabla_core.scheduler import drive
from nabla_core.types import Cost, Prompt
from pipeline.compare.readings import ReadingTask, sampled_law, stages_of, write_reading
from pipeline.grading.graders import grader
from pipeline.store.files import Folder
from pipeline.store.reader import final_files
from pipeline.tables.traces import prompt_of

COLUMNS = [
    *("prompt_id", "sample", "prompt", "system", "tools", "expected_answer", "error"),
    *("response", "response_token_ids", "base_token_ids", "revisions", "correct", "base_correct"),
]


@dataclass(frozen=True)
class _Read:
    """What the models say of one row."""

    row: Mapping[str, Any]
    divergence: Divergence | None
    second: Judged | None
    texts: list[str]
    cost: Cost = field(default_factory=Cost)


def read_arm(task: ReadingTask) -> None:
    """Read the responses of an arm and write the reading. Raises ModelError."""
    engines = _engines(task)
    grade = grader(task.config.verify)
    rows = []
    flows = (_flow(prompt_of(row), row, task, engines) for row in _rows(task))
    for read in drive(flows, engines, in_flight=3 * task.config.runtime.max_batch):
        row, found = read.row, read.divergence
        prompt = prompt_of(row)
        stages = None
        if row["revisions"] and read.texts:
            between = [grade(prompt, text).correct for text in read.texts[1:-1]]
            stages = [row["base_correct"], *between, row["correct"]]
        rows.append(
            {
                "prompt_id": row["prompt_id"],
                "sample": row["sample"],
                "log_reference": found and found.reference,
                "log_policy": found and found.policy,
                "kl": found and found.kl,
                "second_reward": read.second and read.second.reward,
                "stages": None if stages is None or None in stages else stages,
            }
        )
    write_reading(task, rows)


def _rows(task: ReadingTask) -> Any:
    source = Folder(task.run_dir)
    for part in final_files(source):
        with source.fs.open_input_file(source.path(part.name)) as handle:
            file = pq.ParquetFile(handle, page_checksum_verification=True)
            for batch in file.iter_batches(batch_size=1024, columns=COLUMNS):
                yield from (row for row in batch.to_pylist() if row["error"] is None)


def _flow(
    prompt: Prompt, row: Mapping[str, Any], task: ReadingTask, engines: Engines
) -> RequestGenerator[_Read]:
    context = yield from ask(Render(prompt))
    tokens = tuple(row["response_token_ids"])
    served = {kind for engine in engines.engines for kind in engine.kinds}
    divergence = second = None
    if Diverge in served and row["sample"] < task.kl_samples:
        (divergence,) = yield from ask_readable([Diverge(context, tokens)])
    if Score in served:
        (second,) = yield from ask_readable([Score(context, tokens)])
    stages = stages_of(row) if row["revisions"] else None
    texts = (yield from ask(Decode(tuple(stages)))) if stages else []
    # A single stage is both the first and the last.
    return _Read(row, divergence, second, texts if len(texts) > 1 else texts * 2)


def _engines(task: ReadingTask) -> Engines:
    """The engines that a task needs: none for KL where an arm has other tokens than the reference,
    or for a second judge where there is none."""
    config, runtime = task.config, task.config.runtime
    device = device_of(runtime.device)
    dtype = torch_dtype(runtime, model_paths(config.lm, config.reward))
    rows, limit = runtime.max_batch, runtime.max_batch_tokens

    def load(lm: LM) -> LanguageModel:
        path = model_location(lm.path, "lm")
        return load_language_model(path, revision=lm.revision, device=device, dtype=dtype)

    policy = load(config.lm)
    reference = policy if task.reference == config.lm else load(task.reference)
    built: list[Engine] = []
    if task.kl_samples and same_tokens(reference, policy):
        built.append(DivergenceEngine(reference, _law(task, policy), rows, limit))
    judge = None
    if task.second_judge is not None:
        path = model_location(task.second_judge, "judge")
        judge = load_reward_model(path, revision=None, device=device, dtype=dtype)
        reader = reader_for(judge, policy, config.reward.min_coverage)
        built.append(ScoreEngine(reader, rows, limit, return_cache=False))
    guide = _guide_model(built)
    text = TextEngine(policy, judge, guide, runtime.template_date, config.reward.tools)
    return Engines(text, *built)


def _guide_model(built: list[Engine]) -> LanguageModel | None:
    """The model that a guided law reads prompts with: they are rendered for it too."""
    laws = (engine.law for engine in built if isinstance(engine, DivergenceEngine))
    law = next(laws, None)
    reader = law.guide.reader if law and law.guide else None
    return reader.model if reader else None


def _law(task: ReadingTask, policy: LanguageModel) -> Law | None:
    config = task.config
    sampling = sampled_law(config.decoding)
    if sampling is None:
        return None
    reward: Reward = config.reward
    guide = None
    if sampling.beta is not None and reward.guide is not None:
        path = model_location(reward.guide, "guide")
        loaded = load_guide(
            path, reward.guide_revision, policy, reward.min_coverage, config.runtime
        )
        guide = loaded if isinstance(loaded, AdvantageGuide) else None
    return Law(lm=policy, sampling=sampling, guide=guide)


def same_tokens(reference: LanguageModel, policy: LanguageModel) -> bool:
    """Whether both read the same ids of a prompt and response: a KL compares the probabilities of
    the same tokens."""
    ours, theirs = reference.tokenizer, policy.tokenizer
    return bool(
        ours.get_vocab() == theirs.get_vocab()
        and ours.chat_template == theirs.chat_template
        and reference.stop == policy.stop
    )
