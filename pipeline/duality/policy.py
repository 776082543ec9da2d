"""Part policy: a reference and an RL-tuned checkpoint of yours, over the Ray path.

Samples 0 to `samples` - 1 of a prompt are the policy's, those after them the reference's,
each a row of the same store as other jobs': sharded, committed, resumable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from nabla_core.config import LM, Engine, Reward
from nabla_core.requests import Flow
from nabla_core.types import Prompt
from pipeline import config_check
from pipeline.cluster import Cluster
from pipeline.duality.findings import Book
from pipeline.errors import InputError
from pipeline.files import below
from pipeline.parts import with_config
from pipeline.plan import Plan, Watcher
from pipeline.prompts import Prompts, read
from pipeline.recipe import Maker
from pipeline.run import execute
from pipeline.schema import KEYS, TRACES
from pipeline.store import RunStore, Store
from pipeline.verify import Verify, grader

SHAPING = (
    "seed",
    "policy.reference",
    "policy.policy",
    "policy.reward",
    "policy.samples",
    "policy.reference_samples",
    "policy.max_tokens",
    "policy.engine.device",
    "policy.engine.dtype",
    "policy.verify.method",
)

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
READ = ("prompt_id", "sample", "arm", "log_p_ref", "log_p_policy", "reward", "correct", "error")


@dataclass(frozen=True)
class Policy:
    """`reference` and `policy`: two causal LMs with one tokenizer, sampled at temperature 1;
    `reward.judge` gives r. `samples` responses of the policy and `reference_samples` of the
    reference to each prompt; `betas` at which the frontier is sought."""

    reference: LM = field(default_factory=lambda: LM(path=""))
    policy: LM = field(default_factory=lambda: LM(path=""))
    reward: Reward = field(default_factory=Reward)
    prompts: Prompts = field(default_factory=Prompts)
    samples: int = 64
    reference_samples: int = 2048
    max_tokens: int = 1024
    betas: tuple[float, ...] = (16.0, 8.0, 4.0, 2.0, 1.0, 0.5)
    engine: Engine = field(default_factory=Engine)
    verify: Verify = field(default_factory=Verify)
    cluster: Cluster = field(default_factory=Cluster)
    store: Store = field(default_factory=Store)
    max_attempts: int = 3

    def __post_init__(self) -> None:
        if not self.betas or min(self.betas) <= 0:
            raise ValueError(f"policy.betas must be positive, got {list(self.betas)}")
        for name in ("samples", "reference_samples"):
            if getattr(self, name) < 2:
                raise ValueError(f"policy.{name} must be at least 2, got {getattr(self, name)}")

    def check(self) -> None:
        """Raises ValueError where the part cannot run."""
        for name in ("reference", "policy"):
            if not getattr(self, name).path:
                raise ValueError(f"part policy needs policy.{name}.path, a checkpoint of yours")


@dataclass(frozen=True)
class PolicyRecipe:
    """Settings that travel to the workers."""

    settings: Policy
    seed: int
    config_hash: str

    @property
    def schema(self) -> pa.Schema:
        return RESPONSES

    @property
    def totals(self) -> tuple[str, ...]:
        return ("arm", "error")

    def summarise(self, tables: Iterable[pa.Table]) -> dict[str, Any]:
        counts = {"policy": 0, "reference": 0, "dead": 0}
        for table in tables:
            for row in table.to_pylist():
                counts["dead" if row["error"] is not None else row["arm"]] += 1
        return {"rows_by_arm": counts}

    def open(self) -> Maker:
        from nabla_core.embedded.weights import folder  # noqa: PLC0415
        from nabla_core.engines.base import Engines  # noqa: PLC0415 - torch: workers only
        from nabla_core.engines.loading import read_with  # noqa: PLC0415
        from nabla_core.engines.rollouts import RolloutEngine  # noqa: PLC0415
        from nabla_core.engines.sweeps import ScoreEngine  # noqa: PLC0415
        from nabla_core.engines.text import TextEngine  # noqa: PLC0415
        from nabla_core.models import load_reward_model  # noqa: PLC0415
        from pipeline.duality.policy_flow import (  # noqa: PLC0415
            Likelihoods,
            PolicyLikelihood,
            PolicyRollouts,
            ReferenceLikelihood,
            load_lm,
            refuse_strangers,
        )

        asked, engine = self.settings, self.settings.engine
        reference = load_lm(asked.reference, engine.device, engine.dtype)
        policy = load_lm(asked.policy, engine.device, engine.dtype)
        refuse_strangers(reference, policy)
        judge_path = asked.reward.judge
        judge = load_reward_model(
            str(folder("judge")) if judge_path == "embedded" else judge_path,
            revision=asked.reward.judge_revision,
            device=reference.device,
            dtype=reference.table.dtype,
        )
        reader = read_with(judge, reference, asked.reward.min_coverage)
        rows, tokens = engine.max_batch, engine.max_batch_tokens
        engines = Engines(
            TextEngine(reference, judge, judge),
            ScoreEngine(reader, rows, tokens, keep=False),
            Likelihoods(reference, ReferenceLikelihood, rows, tokens),
            Likelihoods(policy, PolicyLikelihood, rows, tokens),
            RolloutEngine(reference, rows, tokens, keep=False),
            PolicyRollouts(policy, rows, tokens, keep=False),
            identities={
                "reference": reference.identity,
                "policy": policy.identity,
                "judge": judge.identity,
            },
        )
        return PolicyMaker(self, engines)


class PolicyMaker:
    """See `PolicyRecipe`."""

    def __init__(self, recipe: PolicyRecipe, engines: Any) -> None:
        self.engines = engines
        self._recipe = recipe
        self._grade = grader(recipe.settings.verify)
        self._constant = {
            "seed": recipe.seed,
            "config_hash": recipe.config_hash,
            **{
                f"{role}_{column}": getattr(engines.identities[role], attribute)
                for role in ("reference", "policy", "judge")
                for column, attribute in (("model", "name"), ("revision", "revision"))
            },
        }

    def flow(self, prompt: Prompt) -> Flow:
        from pipeline.duality.policy_flow import measured  # noqa: PLC0415 - torch

        settings = self._recipe.settings
        return measured(
            prompt,
            of_policy=prompt.sample < settings.samples,
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
        of_policy = prompt.sample < self._recipe.settings.samples
        return {
            **self._constant,
            "arm": "policy" if of_policy else "reference",
            "question": prompt.text,
            "expected_answer": prompt.answer,
        }

    def numbers(self, row: Mapping[str, Any]) -> dict[str, float]:
        return {}


def plan(settings: Policy, run_dir: str, seed: int) -> Plan:
    """What part policy will do. Reads nothing yet."""
    described = {"seed": seed, "policy": asdict(settings)}
    config_hash = config_check.digest(config_check.shaping(described, SHAPING))
    return Plan(
        run_dir=below(run_dir, "policy"),
        source=settings.prompts.path,
        read=lambda: read(settings.prompts),
        samples=settings.samples + settings.reference_samples,
        recipe=PolicyRecipe(settings, seed, config_hash),
        settings=described,
        shaping=SHAPING,
        cluster=settings.cluster,
        store=settings.store,
        max_attempts=settings.max_attempts,
        max_dead_fraction=0.1,
        allow_input_change=False,
        retry_dead=False,
    )


def run(settings: Policy, run_dir: str, seed: int, watcher: Watcher) -> Book:
    """Make the rows that are missing, then measure. Raises InputError naming the first
    prompt that could not be processed: an expectation over the others would be another one."""
    from pipeline.duality.policy_report import measure  # noqa: PLC0415 - torch

    described = plan(settings, run_dir, seed)
    outcome = execute(described, watcher)
    schema = with_config(described.recipe.schema, described.config_hash)
    store = RunStore(described.run_dir, schema, settings.store)
    tables = store.rows(READ, final=not outcome.hopeless)
    rows = [row for table in tables for row in table.to_pylist()]
    dead = [row for row in rows if row["error"] is not None]
    if dead:
        first = dead[0]
        raise InputError(
            f"{len(dead)} responses could not be measured, first prompt "
            f"{first['prompt_id']} sample {first['sample']}: {first['error']}"
        )
    return measure(rows, settings, seed)
