"""GRPO with TRL on the enumerated LM, as practitioners run it.

Needs the `train` extra. TRL draws the completions with its own generation loop, and the reward
is looked up by their token ids.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.duality.tokens.enumerable import (
    LETTERS,
    PROMPT,
    STATES,
    EnumeratedModels,
    T,
    number,
    save_lm,
    tokenizer,
)
from pipeline.duality.tokens.policies import law_of

GROUP = 8


def grpo(
    models: EnumeratedModels,
    beta: float,
    *,
    steps: int,
    learning_rate: float,
    batch: int,
    seed: int,
) -> Tensor:
    """The law `[S]` after training. k3 penalty with TRL's bias correction, no reward scaling."""
    # trl comes with the optional extra `train`; the others take seconds to import.
    from datasets import Dataset  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, PrinterCallback  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415
    from trl import GRPOConfig, GRPOTrainer  # noqa: PLC0415

    logging.disable_progress_bar()
    reward = models.problem.reward

    def rewards(completion_ids: list[list[int]], **_: Any) -> list[float]:
        if any(len(ids) != T for ids in completion_ids):
            raise ValueError(f"a completion is not {T} tokens long")
        values: list[float] = reward[number(torch.tensor(completion_ids))].tolist()
        return values

    # TRL seeds the global generator, which is restored afterwards.
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        # With beta > 0 TRL loads the reference from the folder that the policy was loaded from.
        save_lm(models.lm, Path(folder))
        settings = GRPOConfig(
            output_dir=str(Path(folder) / "out"),
            beta=beta,
            num_generations=GROUP,
            per_device_train_batch_size=batch,
            max_completion_length=T,
            max_steps=steps,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, steps // 20),
            # No scaling by the group's standard deviation and no length normalisation: both
            # would change the objective that beta refers to.
            scale_rewards="none",
            loss_type="dr_grpo",
            use_bias_correction_kl=True,
            # The policy's own law: no temperature, no truncation, no dropout.
            temperature=1.0,
            top_k=0,
            disable_dropout=True,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            use_vllm=False,
            # Nothing but the final weights is needed.
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed,
        )
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False),
            reward_funcs=rewards,
            args=settings,
            # All responses share one prompt; TRL needs a dataset with enough rows for a batch.
            train_dataset=Dataset.from_dict({"prompt": [LETTERS[PROMPT]] * STATES}),
            processing_class=tokenizer(),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return law_of(trainer.model.eval())
