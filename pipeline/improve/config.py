"""Settings of `jobs.improve`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from nabla_core.config import Decoding
from nabla_core.config_metadata import NOT_SHAPING, SHAPING_THROUGHOUT
from nabla_core.guide_training.settings import Kind, Optimise, Target
from nabla_core.methods.counterfactuals import Explore
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.run.cluster_config import Cluster
from pipeline.store.settings import Store
from pipeline.train_guide.config import Start, Validation, Workers, check_searchable, ranked_search


@dataclass(frozen=True)
class Training:
    """How the guide of a round is trained: the settings of `jobs.train_guide` of these names.

    `start` is what the first round's guide starts as; a later one goes on from the one before
    (`from_scratch`: from `start` again), on the counterfactuals of all rounds so far and, with
    `revisions`, on the revisions of their traces.
    """

    kind: Kind = "head"
    start: Start = field(default_factory=Start)
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
    """One run of `jobs.improve`.

    Every round takes the next `prompts.limit` of `prompts`. `eval_prompts` are the prompts that all
    rounds are measured on; `verify` grades their answers where the input has them, which is
    told beside the judge's reward and is not learned from.
    """

    run_dir: str = field(default="runs/improve", metadata=NOT_SHAPING)
    rounds: int = field(default=3, metadata=NOT_SHAPING)
    seed: int = 0
    prompts: Prompts = field(default_factory=lambda: Prompts(split="train", limit=1000))
    eval_prompts: Prompts = field(default_factory=lambda: Prompts(split="test", limit=1000))
    lm: LM = field(default_factory=LM)
    reward: Reward = field(default_factory=Reward)
    # Reports are of all rounds, which must be graded alike.
    verify: Verify = field(default_factory=Verify, metadata=SHAPING_THROUGHOUT)
    decoding: Decoding = field(default_factory=lambda: Decoding(nabla=ranked_search()))
    explore: Explore = field(default_factory=Explore)
    training: Training = field(default_factory=Training)
    runtime: Runtime = field(default_factory=Runtime)
    cluster: Cluster = field(default_factory=Cluster, metadata=NOT_SHAPING)
    store: Store = field(default_factory=Store, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        if self.prompts.limit is None:
            raise ValueError("prompts.limit must say how many prompts a round takes")
        if "://" in self.run_dir:
            raise ValueError(
                f"run_dir {self.run_dir}: guides are loaded from it, so it must be a folder that "
                "every node sees"
            )
        if self.reward.guide is not None:
            raise ValueError("reward.guide: the judge is round 0's guide, rounds make the others")
        if self.training.workers.address is not None:
            raise ValueError("training.workers.address: cluster.address says which Ray is joined")
        check_searchable(self.training.kind, self.decoding.nabla, "decoding.nabla")
        if self.decoding.method != "nabla":
            raise ValueError(f"decoding.method={self.decoding.method} uses no guide")
