"""Part policy: a reference and an RL-tuned checkpoint of yours, over the Ray path.

Samples 0 to `samples` - 1 of a prompt are the policy's, those after them the reference's,
each a row of the same store as other jobs': sharded, committed, resumable.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from nabla_core.model_config import LM, Engine, Reward
from pipeline.duality.findings import Book
from pipeline.duality.policy_rows import PolicyRecipe
from pipeline.errors import InputError
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts, read
from pipeline.run.cluster import Cluster
from pipeline.run.driver import execute
from pipeline.run.plan import Plan, Watcher
from pipeline.store import config_check
from pipeline.store.files import below
from pipeline.store.parts import with_config
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store

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
