"""Settings of `jobs.improve`. Nothing here imports torch or ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nabla_core.config import Decoding, Sampling, check
from nabla_core.config_metadata import NOT_SHAPING, SHAPING_THROUGHOUT
from nabla_core.guide_training.settings import Kind, Optimise, Target, ValueHead
from nabla_core.methods.counterfactuals import Explore
from nabla_core.model_config import LM, Reward, Runtime
from pipeline.cluster.config import Cluster
from pipeline.export.config import Filters
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from pipeline.run.config import require_guide, require_judge
from pipeline.store.settings import Store
from pipeline.train_guide.config import (
    Start,
    Validation,
    check_searchable,
    check_start,
    check_tails,
    ranked_search,
)
from pipeline.train_judge.config import Goal, Hard, Metric
from pipeline.training.config import Finetune, Workers

# In the order in which a round takes them.
Step = Literal["search", "samples", "distill", "judge", "counterfactuals", "guide"]
STEPS: tuple[Step, ...] = ("search", "samples", "distill", "judge", "counterfactuals", "guide")
TRAINING: tuple[Step, ...] = ("distill", "judge", "guide")
GUIDE_STEPS: tuple[Step, ...] = ("search", "counterfactuals", "guide")


@dataclass(frozen=True)
class Samples:
    """The plain samples of step `samples`, which no judge reads.

    Attributes:
        count (responses): Samples of each prompt.
        sampling: How they are drawn.
    """

    count: int = 8
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.7))

    def __post_init__(self) -> None:
        check(self.count >= 1, f"samples.count must be at least 1, got {self.count}")
        check(
            self.sampling.beta is None,
            "samples.sampling.beta must be null: plain samples are the LM's own; set "
            "decoding.method=guided for guided ones",
        )
        check(
            self.count == 1 or self.sampling.temperature > 0,
            f"samples.count={self.count} at samples.sampling.temperature=0 would be one response",
        )


@dataclass(frozen=True)
class Distillation:
    """How the LM of a round is trained, in step `distill`: on the traces of its steps `search` and
    `samples`. Keys have the meanings of `nabla export` and `nabla distill`. Checkpoints are
    measured on `training.validation.prompts`.

    Attributes:
        from_scratch: Trains `lm` in each round; without it the LM of the round before.
        all_rounds: Trains on the traces of all rounds so far; without it on those of the round.
        format: What a row is.
        filters: Which traces are trained on.
        max_length (tokens): Longer rows are left out; null: the context of the LM.
        optimise: The optimiser.
        metric: What a checkpoint is chosen by: the `accuracy` of its greedy answers, or the judge's
            mean `reward`.
        every (steps): A checkpoint is made and measured every so many steps.
        workers: The processes that train. `workers.address` must be null: `cluster.address` is
            used.
    """

    from_scratch: bool = False
    all_rounds: bool = True
    format: Literal["sft", "tokens"] = "tokens"
    filters: Filters = field(default_factory=lambda: Filters(verified=True))
    max_length: int | None = None
    optimise: Finetune = field(default_factory=Finetune)
    metric: Literal["accuracy", "reward"] = "accuracy"
    every: int = 250
    workers: Workers = field(default_factory=Workers, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        check(self.every >= 1, f"distill.every must be at least 1, got {self.every}")

    @property
    def answer_filters(self) -> list[str]:
        """The keys of filters that use answers."""
        used = {
            "verified": self.filters.verified,
            "min_pass_rate": self.filters.min_pass_rate is not None,
            "max_pass_rate": self.filters.max_pass_rate is not None,
        }
        return [f"distill.filters.{name}" for name, uses in used.items() if uses]


@dataclass(frozen=True)
class Judging:
    """How the judge of a round is trained, in step `judge`: on right and wrong answers of the
    round's LM to the prompts of the round, its samples and what it says under `decoding` with the
    last judge and guide. Keys have the meanings of `nabla train-judge`. Checkpoints are measured on
    `training.validation.prompts`.

    Attributes:
        temperatures: Samples are drawn at each of these temperatures.
        count (responses): Samples of each prompt at each temperature.
        candidates (responses): Of each search, further responses that are graded and trained on.
        hard: How often wrong answers are drawn that the last judge scored highly.
        goal: What is learned.
        optimise: The optimiser.
        metric: What a checkpoint is chosen by.
        every (steps): A checkpoint is made and measured every so many steps.
        samples (responses): Samples of each prompt that a checkpoint orders.
        workers: The processes that train. `workers.address` must be null: `cluster.address` is
            used.
    """

    temperatures: tuple[float, ...] = (0.7, 1.0)
    count: int = 4
    candidates: int = 4
    hard: Hard = field(default_factory=Hard)
    goal: Goal = field(default_factory=Goal)
    optimise: Finetune = field(default_factory=lambda: Finetune(steps=500, learning_rate=1e-5))
    metric: Metric = "accuracy"
    every: int = 250
    samples: int = 16
    workers: Workers = field(default_factory=Workers, metadata=NOT_SHAPING)

    def __post_init__(self) -> None:
        check(
            bool(self.temperatures) and min(self.temperatures) > 0,
            f"judge.temperatures: name some above 0, got {list(self.temperatures)}",
        )
        check(self.count >= 1, f"judge.count must be at least 1, got {self.count}")


@dataclass(frozen=True)
class Training:
    """How the guide of a round is trained; keys have the meanings of `nabla train-guide`. It is
    trained on the counterfactuals of all rounds so far that have the LM and the judge of the round.

    Attributes:
        kind: `gradient`, `head` or `value_head`.
        start: The model that the first guide is initialised with, where `reward.guide` names none.
        from_scratch: Initialises the guide of each round with `start`; without it a guide continues
            from the last one in use.
        value_head: The network of a value head.
        revisions: Also trains on the revisions in the traces of the same rounds.
        held_out: The fraction of prompts that are held out of training.
        min_log_probability (nats): Leaves out alternatives with a lower log-probability under the
            LM; null: none.
        target: The loss.
        optimise: The optimiser.
        validation: How checkpoints are measured and chosen. Its prompts also decide whether what a
            round has trained is used.
        workers: The processes that train. `workers.address` must be null: `cluster.address` is
            used.
    """

    kind: Kind = "head"
    start: Start = field(default_factory=Start, metadata=SHAPING_THROUGHOUT)
    from_scratch: bool = False
    value_head: ValueHead = field(default_factory=ValueHead)
    revisions: bool = True
    held_out: float = 0.1
    min_log_probability: float | None = None
    target: Target = field(default_factory=Target)
    optimise: Optimise = field(default_factory=Optimise)
    validation: Validation = field(default_factory=Validation)
    workers: Workers = field(default_factory=Workers, metadata=NOT_SHAPING)


@dataclass(frozen=True)
class ImproveConfig:
    """The settings of `nabla improve`: rounds of generation and training.

    Each round takes the next `prompts.limit` of `prompts`; all rounds are measured on
    `eval_prompts`.

    Attributes:
        run_dir: The run folder, which every node must see; not a URI.
        rounds (rounds): Rounds of training.
        steps: The steps of a round, in this order: `search` (`decoding` on the prompts of the
            round), `samples` (plain ones), `distill` (an LM, trained on both), `judge` (trained on
            what that LM gets right and wrong), `counterfactuals` and `guide` (a guide, trained on
            them). Any of them can be left out.
        answers: What answers are used for. `never`: nothing is trained on them; where there are
            some, they measure and choose. `final`: LM and judge may be trained on verified traces.
        seed: Seed of all draws.
        prompts: The prompts of the rounds; `prompts.limit` is the number that a round takes.
        eval_prompts: The prompts that each round is measured on.
        lm: The language model.
        reward: The judge, and the guide of round 0: null is the judge itself.
        verify: How answers are graded.
        decoding: The search, for traces and for measurements: method nabla, or guided, which needs
            `reward.guide`.
        samples: The plain samples.
        distill: How the LM of a round is trained.
        judge: How the judge of a round is trained.
        explore: Which counterfactuals are made.
        training: How the guide of a round is trained.
        runtime: Where and how models run.
        cluster: The workers and the Ray cluster.
        store: How rows are written.
    """

    run_dir: str = field(default="runs/improve", metadata=NOT_SHAPING)
    rounds: int = field(default=3, metadata=NOT_SHAPING)
    steps: tuple[Step, ...] = GUIDE_STEPS
    answers: Literal["never", "final"] = "never"
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
    samples: Samples = field(default_factory=Samples)
    distill: Distillation = field(default_factory=Distillation)
    judge: Judging = field(default_factory=Judging)
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
            f"run_dir {self.run_dir}: models are loaded from it, so it must be a folder that "
            "every node sees",
        )
        for name in ("training", "distill", "judge"):
            check(
                getattr(self, name).workers.address is None,
                f"{name}.workers.address: cluster.address names the Ray to join",
            )
        check_start(self.training.kind, self.training.start, self.training.optimise, "training.")
        check(
            self.training.kind != "value_head" or "distill" not in self.steps,
            "training.kind: a value head belongs to one LM, and step distill makes another one in "
            "each round: leave distill out of steps, or use kind: head",
        )
        check_tails(self.training.target, traces=self.revisions)
        check(
            self.training.target.value == "mean" or self.explore.tails > 1,
            "training.target.value: soft is over several tails of a token: set explore.tails",
        )
        check_searchable(self.training.kind, self.decoding.nabla, "decoding.nabla")
        check(
            self.decoding.method in ("nabla", "guided"),
            f"decoding.method={self.decoding.method} uses no guide",
        )
        require_judge(self.reward, "nabla improve")
        require_guide(self.reward, self.decoding)
        check(
            not self.guided or self.training.kind == "head",
            "training.kind=gradient: only a head guides tokens as they are drawn",
        )
        self._check_steps()
        self._check_answers()

    def takes(self, step: Step) -> bool:
        """Whether a round takes a step."""
        return step in self.steps

    @property
    def revisions(self) -> bool:
        """Whether guides are trained on revisions too, which the traces of a search hold."""
        return self.training.revisions and self.decoding.method == "nabla"

    @property
    def guided(self) -> bool:
        """Whether a guide draws tokens, so that there is no search without one."""
        return self.decoding.rollout.beta is not None

    def _check_steps(self) -> None:
        shown = ", ".join(self.steps)
        check(bool(self.steps), f"steps: name some of {', '.join(STEPS)}")
        check(
            self.steps == tuple(step for step in STEPS if step in self.steps),
            f"steps: [{shown}] must be in the order {', '.join(STEPS)}, each at most once",
        )
        check(
            any(self.takes(step) for step in TRAINING),
            f"steps: [{shown}] trains nothing; add one of {', '.join(TRAINING)}",
        )
        check(
            not self.takes("distill") or self.takes("search") or self.takes("samples"),
            "steps: distill needs traces to train on; add search or samples",
        )
        check(
            not self.takes("counterfactuals") or self.takes("guide"),
            "steps: nothing is trained on counterfactuals without guide",
        )
        # A trained LM or judge makes the traces of its round those of other models.
        others = self.takes("distill") or self.takes("judge")
        revisions = self.revisions and self.takes("search") and not others
        check(
            not self.takes("guide") or self.takes("counterfactuals") or revisions,
            "steps: guide needs data; add counterfactuals, or search with training.revisions=true "
            "and without distill and judge",
        )

    def _check_answers(self) -> None:
        if self.answers != "never":
            return
        used = self.distill.answer_filters if self.takes("distill") else []
        if self.takes("judge"):
            used.append("steps: judge")
        if self.takes("counterfactuals") and self.explore.scorer == "verifier":
            used.append("explore.scorer=verifier")
        check(
            not used,
            f"{', '.join(used)}: a model would be trained on answers; set answers=final to allow "
            "it, or leave these out",
        )
