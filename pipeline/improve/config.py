"""Settings of `jobs.improve`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.config import Decoding, check
from nabla_core.config_metadata import NOT_SHAPING, SHAPING_THROUGHOUT
from nabla_core.guide_training.settings import Kind, Optimise, Target
from nabla_core.methods.counterfactuals import Explore
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.cluster.config import Cluster
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.store.settings import Store
from pipeline.train_guide.config import (
    Start,
    Validation,
    check_searchable,
    check_tails,
    ranked_search,
)
from pipeline.training.config import Workers


@dataclass(frozen=True)
class Training:
    """How the guide of a round is trained; keys have the meanings of `nabla train-guide`. It is
    trained on the counterfactuals of all rounds so far.

    Attributes:
        kind: `gradient` or `head`.
        start: The model that the first round's guide is initialised with.
        from_scratch: Initialises the guide of each round with `start`; without it a guide continues
            from that of the round before.
        revisions: Also trains on the revisions in the traces of all rounds so far.
        held_out: The fraction of prompts that are held out of training.
        min_log_probability (nats): Leaves out alternatives with a lower log-probability under the
            LM; null: none.
        target: The loss.
        optimise: The optimiser.
        validation: How checkpoints are measured and chosen.
        workers: The processes that train. `workers.address` must be null: `cluster.address` is
            used.
    """

    kind: Kind = "head"
    start: Start = field(default_factory=Start, metadata=SHAPING_THROUGHOUT)
    from_scratch: bool = False
    revisions: bool = True
    held_out: float = 0.1
    min_log_probability: float | None = None
    target: Target = field(default_factory=Target)
    optimise: Optimise = field(default_factory=Optimise)
    validation: Validation = field(default_factory=Validation)
    workers: Workers = field(default_factory=Workers, metadata=NOT_SHAPING)


@dataclass(frozen=True)
class ImproveConfig:
    """The settings of `nabla improve`: rounds of search, exploration and guide training.

    Each round takes the next `prompts.limit` of `prompts`; all rounds are measured on
    `eval_prompts`.

    Attributes:
        run_dir: The run folder, which every node must see; not a URI.
        rounds (rounds): Rounds of training.
        seed: Seed of all draws.
        prompts: The prompts of the rounds; `prompts.limit` is the number that a round takes.
        eval_prompts: The prompts that the guide of each round is measured on.
        lm: The language model.
        reward: The judge, which also is the guide of round 0. `reward.guide` must be null.
        verify: How answers are graded. Accuracy is reported and nothing is trained on it.
        decoding: The search, for traces and for measurements; its method must be nabla.
        explore: Which counterfactuals are made.
        training: How the guide of a round is trained.
        runtime: Where and how models run.
        cluster: The workers and the Ray cluster.
        store: How rows are written.
    """

    run_dir: str = field(default="runs/improve", metadata=NOT_SHAPING)
    rounds: int = field(default=3, metadata=NOT_SHAPING)
    seed: int = 0
    prompts: Prompts = field(default_factory=lambda: Prompts(split="train", limit=1000))
    eval_prompts: Prompts = field(default_factory=lambda: Prompts(split="test", limit=1000))
    # Their revisions too: a finished round does not load its models again, so nothing would notice
    # that a later round has others.
    lm: LM = field(default_factory=LM, metadata=SHAPING_THROUGHOUT)
    reward: Reward = field(default_factory=Reward, metadata=SHAPING_THROUGHOUT)
    # Rounds are compared with each other, so all of them must be graded alike.
    verify: Verify = field(default_factory=Verify, metadata=SHAPING_THROUGHOUT)
    decoding: Decoding = field(default_factory=lambda: Decoding(nabla=ranked_search()))
    explore: Explore = field(default_factory=Explore)
    training: Training = field(default_factory=Training)
    runtime: Runtime = field(default_factory=Runtime)
    cluster: Cluster = field(default_factory=Cluster, metadata=NOT_SHAPING)
    store: Store = field(default_factory=Store)

    def __post_init__(self) -> None:
        check(self.rounds >= 1, f"rounds must be at least 1, got {self.rounds}")
        check(
            self.seed + self.rounds < 2**63,
            f"seed + rounds, the seed of the last training, must have 64 bits, got {self.seed}",
        )
        check(
            self.prompts.limit is not None,
            "prompts.limit must say how many prompts a round takes",
        )
        check(
            "://" not in self.run_dir,
            f"run_dir {self.run_dir}: guides are loaded from it, so it must be a folder that "
            "every node sees",
        )
        check(
            self.reward.guide is None,
            "reward.guide: the judge is round 0's guide, and rounds train the others",
        )
        check(
            self.training.workers.address is None,
            "training.workers.address: cluster.address names the Ray to join",
        )
        check_tails(self.training.target, traces=self.training.revisions)
        check(
            self.training.target.value == "mean" or self.explore.tails > 1,
            "training.target.value: soft is over several tails of a token: set explore.tails",
        )
        check_searchable(self.training.kind, self.decoding.nabla, "decoding.nabla")
        check(
            self.decoding.method == "nabla",
            f"decoding.method={self.decoding.method} uses no guide",
        )
