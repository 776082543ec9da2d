"""The rounds, one after the other. Answers decide what is trained on, and validation prompts what
is used of what was trained: only a verifier brings new knowledge into a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from pipeline.generate.config import GenerateConfig
from pipeline.improve import steps
from pipeline.improve.config import ImproveConfig, Step
from pipeline.improve.evaluation import Evaluation
from pipeline.improve.rounds import Figures, Round, Trained, Use, Way, reward_hacked, use_of
from pipeline.improve.runner import Observer, Runner
from pipeline.improve.steps import Models
from pipeline.improve.yielded import Yielded, yields_of

# `nothing_of_use`: judge and guide are of no use to the LM, and no step makes other data.
StopReason = Literal["completed", "reward_hacked", "nothing_of_use"]


class _Made(NamedTuple):
    """The run folder of traces or counterfactuals, and the LM and judge that made it."""

    run_dir: str
    lm: str
    judge: str | None


class _Evaluated(NamedTuple):
    """What was measured on the evaluation prompts: `decoding`, the LM alone; and the judge."""

    searched: Evaluation
    greedy: Evaluation
    judge: str | None


@dataclass(frozen=True, kw_only=True)
class _Guide:
    """The models of a round, with the guide that it has trained, if it has, and its figures."""

    models: Models
    top1: float | None = None
    counterfactuals: int = 0


class Loop:
    """The rounds so far. Round 0 is an evaluation alone, of the models of the config."""

    def __init__(self, config: ImproveConfig, observer: Observer) -> None:
        self._config, self._runner = config, Runner(observer)
        self._models = Models(lm=config.lm, reward=config.reward)
        # The round that the LM in use is of.
        self._lm_round = 0
        # Whether the search with judge and guide is of use to the LM.
        self._searching = True
        # Greedy evaluations by the round of the LM: on validation and on evaluation prompts.
        self._validated: dict[int, Evaluation] = {}
        self._evaluated: dict[int, Evaluation] = {}
        self._distilled: list[str] = []
        self._traces: list[_Made] = []
        self._counterfactuals: list[_Made] = []
        self._last = self._evaluate(0, self._models)
        self.rounds = [self._round(0, self._models, None)]

    @property
    def stop_reason(self) -> StopReason | None:
        """Why no round follows; None where one does."""
        if self.rounds[-1].reward_hacked:
            return "reward_hacked"
        # Round 0 is one of `rounds`, but no round of training.
        if len(self.rounds) > self._config.rounds:
            return "completed"
        if not (self._searching or self._takes("samples") or self._takes("counterfactuals")):
            return "nothing_of_use"
        return None

    def run_round(self) -> None:
        """Take the steps of the next round, and measure what they gave."""
        number = len(self.rounds)
        used: dict[Trained, Use] = {}
        made, yields = self._generate(number)
        distilled = 0
        if self._takes("distill"):
            used["lm"], distilled = self._distil(number, made)
        if self._takes("judge"):
            used["judge"] = self._train_judge(number)
        # Only now: LM and judge in use may be new ones.
        trained = _Guide(models=self._models)
        if self._takes("guide"):
            trained = self._train_guide(number)
        models = trained.models
        use, way = self._decide(number, models)
        if self._takes("guide"):
            used["guide"] = use
        before, self._last = self._last, self._evaluate(number, models)
        self.rounds.append(
            replace(
                self._round(number, models, before),
                top1=trained.top1,
                counterfactuals=trained.counterfactuals,
                distilled=distilled,
                used=used,
                way=way,
                yields=yields,
            )
        )

    def _takes(self, step: Step) -> bool:
        return self._config.takes(step)

    def _generate(self, number: int) -> tuple[list[str], dict[str, Yielded]]:
        """Steps `search` and `samples`: the run folders, and their yields."""
        config, runner, models = self._config, self._runner, self._models
        runs: dict[str, GenerateConfig] = {}
        if self._takes("search") and self._searching:
            # These traces are data of guides too: `training.revisions` trains on their revisions.
            runs["search"] = steps.search(config, number, models)
            self._traces.append(self._made(runs["search"].run_dir))
        if self._takes("samples"):
            runs["samples"] = steps.samples(config, number, models)
        for run in runs.values():
            runner.generate(run)
        attempted = {name: runner.attempted(run) for name, run in runs.items()}
        graded = {name: made for name, made in attempted.items() if made is not None}
        hard = self._hard(number, runs) if graded else None
        yields = yields_of(graded, hard, graded.get("samples"))
        return [run.run_dir for run in runs.values()], yields

    def _hard(self, number: int, runs: Mapping[str, GenerateConfig]) -> set[str] | None:
        """The prompts of the round whose greedy answer is wrong."""
        search = runs.get("search")
        drawn = self._config.decoding.rollout
        if search is not None and drawn.temperature == 0 and drawn.beta is None:
            # The first response of the search is the greedy one.
            return self._runner.wrong(search, "base_correct")
        alone = steps.greedy(self._config, number, self._models)
        self._runner.generate(alone)
        return self._runner.wrong(alone, "correct")

    def _distil(self, number: int, made: list[str]) -> tuple[Use, int]:
        """Step `distill`: an LM, used unless its greedy answers are worse than those before."""
        config, before = self._config, self._models
        self._distilled += made
        folders = self._distilled if config.distill.all_rounds else made
        settings = steps.distill(config, number, before, folders)
        card = self._runner.distill(settings)
        student = before.with_lm(f"{settings.run_dir}/student")
        answers = self._alone(number, student)
        use = use_of(answers.gains(self._alone(self._lm_round, before)), "the LM before")
        if use.used:
            self._models, self._lm_round = student, number
        return use, int(card["data"]["rows"])

    def _train_judge(self, number: int) -> Use:
        """Step `judge`, on what the LM in use gets right and wrong: used unless a search with the
        judge alone makes the LM worse."""
        config, runner, models = self._config, self._runner, self._models
        runs = steps.answers(config, number, models)
        if self._can_search(models):
            runs.append(steps.answers_decoded(config, number, models))
        for run in runs:
            runner.generate(run)
        settings = steps.train_judge(config, number, models, [run.run_dir for run in runs])
        runner.train_judge(settings)
        judged = models.with_judge(f"{settings.run_dir}/judge")
        answers = runner.evaluate(steps.validate_judge(config, number, judged))
        use = use_of(answers.gains(self._alone(self._lm_round, models)), "the LM alone")
        if use.used:
            self._models = judged
        return use

    def _train_guide(self, number: int) -> _Guide:
        """Steps `counterfactuals` and `guide`, with the LM in use."""
        config, models = self._config, self._models
        if self._takes("counterfactuals"):
            exploration = steps.explore(config, number, models)
            self._runner.explore(exploration)
            self._counterfactuals.append(self._made(exploration.run_dir))
        settings = steps.train(
            config,
            number,
            models,
            counterfactuals=self._of_these_models(self._counterfactuals),
            traces=self._of_these_models(self._traces),
        )
        card = self._runner.train(settings)
        first = self.rounds[0]
        if (
            number == 1
            and first.guide is None
            and models.lm == config.lm
            and card["judge_gradient"]
        ):
            # Round 0 trains nothing; the agreement of its guide, the judge, is measured here.
            self.rounds[0] = replace(first, top1=card["judge_gradient"]["top1"])
        return _Guide(
            models=models.with_guide(f"{settings.run_dir}/guide"),
            top1=card["metrics"]["top1"],
            counterfactuals=card["data"]["counterfactuals"],
        )

    def _decide(self, number: int, models: Models) -> tuple[Use, Way]:
        """Whether judge and guide of the round are used further, and how its models answer best.
        Where they are not, those before stay, if these are of use to the LM."""
        config, runner = self._config, self._runner
        alone, before = self._alone(self._lm_round, models), self._models
        if not self._can_search(models):
            self._searching = False
            return use_of(alone.gains(alone), "the LM alone"), "greedy"
        gains = runner.evaluate(steps.validate(config, number, "search", models)).gains(alone)
        use = use_of(gains, "the LM alone")
        self._searching = use.used
        if use.used:
            self._models = models
            return use, "decoding" if use.gain.mean > 0 else "greedy"
        if models != before and self._can_search(before):
            kept = runner.evaluate(steps.validate(config, number, "search-before", before))
            self._searching = use_of(kept.gains(alone), "the LM alone").used
        if not self._searching:
            self._models = before.with_guide(None)
        return use, "greedy"

    def _alone(self, number: int, models: Models) -> Evaluation:
        """The greedy answers of the LM of a round to the validation prompts."""
        if number not in self._validated:
            settings = steps.validate_greedy(self._config, number, models)
            self._validated[number] = self._runner.evaluate(settings)
        return self._validated[number]

    def _made(self, run_dir: str) -> _Made:
        return _Made(run_dir, self._models.lm.path, self._models.reward.judge)

    def _of_these_models(self, made: Sequence[_Made]) -> list[str]:
        """The folders made with the LM and judge in use: rows of another LM are another law's, and
        rewards of another judge have another scale."""
        lm, judge = self._models.lm.path, self._models.reward.judge
        return [one.run_dir for one in made if (one.lm, one.judge) == (lm, judge)]

    def _evaluate(self, number: int, models: Models) -> _Evaluated:
        config, runner, lm = self._config, self._runner, self._lm_round
        if lm not in self._evaluated:
            self._evaluated[lm] = runner.evaluate(steps.evaluate_greedy(config, lm, models))
        greedy = searched = self._evaluated[lm]
        if self._can_search(models):
            searched = runner.evaluate(steps.evaluate(config, number, models))
        return _Evaluated(searched, greedy, models.reward.judge)

    def _can_search(self, models: Models) -> bool:
        """Whether there is a guide, where the LM alone is all that is left without one."""
        return models.reward.guide is not None or not self._config.guided

    def _round(self, number: int, models: Models, before: _Evaluated | None) -> Round:
        """The figures of a round on the evaluation prompts."""
        searched, greedy, judge = self._last
        over = searched.gains(before.searched) if before else None
        reward_gain = over.reward if over and before and before.judge == judge else None
        accuracy_gain = over.accuracy if over else None
        return Round(
            number=number,
            lm=models.lm.path,
            judge=judge,
            guide=models.reward.guide,
            reward=searched.reward,
            accuracy=searched.accuracy,
            calls=searched.calls,
            greedy=Figures.of(greedy),
            reward_gain=reward_gain,
            accuracy_gain=accuracy_gain,
            greedy_gain=greedy.gains(before.greedy).accuracy if before else None,
            search_gain=searched.gains(greedy).accuracy,
            reward_hacked=reward_hacked(reward_gain, accuracy_gain),
        )
