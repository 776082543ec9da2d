"""The rows of part checkpoints: responses drawn from either model. Workers make them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from nabla_core.requests import Flow
from nabla_core.types import Identity, Prompt
from pipeline.duality.checkpoints.flow import measure_response
from pipeline.duality.checkpoints.models import model_folders
from pipeline.grading.graders import grader
from pipeline.run.models import visible
from pipeline.run.recipe import Maker
from pipeline.tables.traces import KEYS, TRACES, model_columns

if TYPE_CHECKING:
    from pipeline.duality.checkpoints.config import CheckpointsConfig

Arm = Literal["policy", "reference"]

# One row for each response; log_p_* are natural logarithms, summed over its tokens.
RESPONSES = pa.schema(
    [
        *KEYS[:2],
        ("arm", pa.string()),
        ("question", pa.string()),
        ("response", pa.string()),
        ("response_token_ids", pa.list_(pa.int32())),
        ("finish_reason", pa.string()),
        ("log_p_ref", pa.float64()),
        ("log_p_policy", pa.float64()),
        ("reward", pa.float64()),
        ("expected_answer", pa.string()),
        ("predicted_answer", pa.string()),
        ("correct", pa.bool_()),
        ("reference_model", pa.string()),
        ("reference_revision", pa.string()),
        ("policy_model", pa.string()),
        ("policy_revision", pa.string()),
        ("judge_model", pa.string()),
        ("judge_revision", pa.string()),
        TRACES.field("cost"),
        ("seed", pa.int64()),
        ("config_hash", pa.string()),
        *KEYS[2:],
    ],
    metadata={"nabla_schema": "duality-responses/1"},
)


@dataclass(frozen=True)
class CheckpointsRecipe:
    """What workers need to open the models and make rows; it is sent to them.

    See `pipeline.run.recipe` for what each method must give.
    """

    settings: CheckpointsConfig
    seed: int
    config_hash: str

    @property
    def schema(self) -> pa.Schema:
        return RESPONSES

    @property
    def summary_columns(self) -> tuple[str, ...]:
        return ("arm", "error")

    def summarise(self, tables: Iterable[pa.Table]) -> dict[str, Any]:
        counts = {"policy": 0, "reference": 0, "dead": 0}
        for table in tables:
            for row in table.to_pylist():
                counts["dead" if row["error"] is not None else row["arm"]] += 1
        return {"rows_by_arm": counts}

    def models(self) -> dict[str, Identity]:
        settings = self.settings
        reference, policy, judge = model_folders(settings)
        return visible(
            {
                "reference": (reference, settings.reference.revision),
                "policy": (policy, settings.policy.revision),
                "judge": (judge, settings.reward.judge_revision),
            }
        )

    def open(self) -> Maker:
        # It loads torch, which only the workers need.
        from pipeline.duality.checkpoints.engines import open_engines  # noqa: PLC0415

        return CheckpointsMaker(self, open_engines(self.settings))


class CheckpointsMaker:
    """Makes the rows on a worker: the flow of a prompt, and the row of its result."""

    def __init__(self, recipe: CheckpointsRecipe, engines: Any) -> None:
        self.engines = engines
        self._recipe = recipe
        self._grade = grader(recipe.settings.verify)
        self._constant = {
            "seed": recipe.seed,
            "config_hash": recipe.config_hash,
            **model_columns(
                engines.identities, reference="reference", policy="policy", judge="judge"
            ),
        }

    def flow(self, prompt: Prompt) -> Flow:
        settings = self._recipe.settings
        return measure_response(
            prompt,
            of_policy=self._of_policy(prompt),
            seed=self._recipe.seed,
            max_tokens=settings.max_tokens,
        )

    def row(self, prompt: Prompt, result: Any) -> dict[str, Any]:
        grade = self._grade(prompt, result.text)
        return {
            **self.dead(prompt),
            "response": result.text,
            "response_token_ids": list(result.tokens),
            "finish_reason": result.finish_reason,
            "log_p_ref": result.log_ref,
            "log_p_policy": result.log_policy,
            "reward": result.reward,
            "predicted_answer": grade.predicted,
            "correct": grade.correct,
            "cost": asdict(result.cost),
        }

    def dead(self, prompt: Prompt) -> dict[str, Any]:
        arm: Arm = "policy" if self._of_policy(prompt) else "reference"
        return {
            **self._constant,
            "arm": arm,
            "question": prompt.text,
            "expected_answer": prompt.answer,
        }

    def _of_policy(self, prompt: Prompt) -> bool:
        """The first `samples` samples of a prompt are the policy's, the others the reference's."""
        return prompt.sample < self._recipe.settings.samples

    def numbers(self, row: Mapping[str, Any]) -> dict[str, float]:
        return {}
