"""All figures of a comparison, from the rows of its arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import Any

from nabla_core.config import Decoding
from pipeline.compare.break_even import BreakEven, break_even, candidates
from pipeline.compare.config import Bootstrap
from pipeline.compare.curves import Curve, curves
from pipeline.compare.divergence import Distance, distance, fluency
from pipeline.compare.frontier import frontier
from pipeline.compare.judges import Judging, judging
from pipeline.compare.readings import ReadingTask
from pipeline.compare.results import COSTS, Response, Results, shared_prompts
from pipeline.compare.statistics import Difference, differences, mean
from pipeline.compare.training import TrainedModel
from pipeline.errors import InputError
from pipeline.intervals import Interval
from pipeline.tables.yields import Attempted, Attempts, Yield, yield_of

MEASURES = ("accuracy", "reward")
Readings = Mapping[str, ReadingTask] | None


@dataclass(frozen=True, kw_only=True)
class ArmFigures:
    """An arm on the shared prompts.

    - `accuracy` (None without answers) and `reward` (None where no judge read a response) are means
      over prompts of the mean over a prompt's `samples`; `costs` are those of one response.
    - `over_reference` holds the difference to the reference by measure, none for the reference.
    - `broken`, `mended`: of the responses that a revision changed and whose answers before and
      after are graded, the share that was right before and is wrong now, and the reverse; None
      where there are none.
    - `judging`: what rewards are worth; `distance`: KL to the base LM, and `fluency`: the mean
      log-likelihood of a token under it, in nats; None where it did not read the responses.
    - `yields`: prompts with a right response (`pipeline.tables.yields`); None without answers.
    - `bands`: accuracy by band of the reference, see `bands`.
    - `training`: the trained models that it depends on, and `break_even`: when theirs pays. None
      where it has none, or no rival has less.
    """

    name: str
    run_dir: str
    method: str
    samples: int
    tokens: float
    accuracy: Interval | None
    reward: Interval | None
    costs: Mapping[str, float]
    over_reference: Mapping[str, Difference]
    broken: float | None
    mended: float | None
    judging: Judging
    distance: Distance | None
    fluency: Interval | None
    yields: Yield | None
    bands: Mapping[str, float]
    training: Sequence[TrainedModel]
    break_even: BreakEven | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison over `prompts` prompts. `dead`: prompts that were left out because an arm has
    a dead letter for them, by arm. `bands` names the bands and the number of prompts in each."""

    reference: str
    prompts: int
    dead: Mapping[str, int]
    arms: Sequence[ArmFigures]
    curves: Sequence[Curve]
    bands: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return asdict(self)


def summarise(
    arms: Sequence[Results],
    reference: str,
    settings: Bootstrap,
    readings: Mapping[str, ReadingTask] | None = None,
    models: Mapping[str, Sequence[TrainedModel]] | None = None,
) -> Comparison:
    """`readings`: how the responses of arms were read, which the results have, by arm. `models`:
    the trained models of each arm, as far as they are known.

    Raises InputError where arms cannot be paired, RunError where no prompt is left.
    """
    prompts = shared_prompts(arms)
    base = next(arm for arm in arms if arm.name == reference)
    values = {
        measure: {arm.name: v for arm in arms if (v := _values(arm, prompts, measure)) is not None}
        for measure in MEASURES
    }
    if not any(reference in by_arm for by_arm in values.values()):
        raise InputError(
            f"{reference}: its responses have neither a grade nor a reward, so nothing can be "
            "compared: give prompts with answers and verify.method, or a judge"
        )
    over = {measure: _differences(values[measure], reference, settings) for measure in MEASURES}
    groups = bands(base, prompts)
    hard = _hard(base, prompts)
    costs = {
        arm.name: {name: _mean(arm, prompts, partial(_cost, name)) for name in COSTS}
        for arm in arms
    }
    drawn = [
        curve
        for arm in arms
        for curve in (*curves(arm, prompts), *frontier(arm, prompts, _config(readings, arm)))
    ]
    pays = _break_even(values, costs, drawn, models or {})
    return Comparison(
        reference=reference,
        prompts=len(prompts),
        dead={arm.name: len(arm.dead) for arm in arms if arm.dead},
        arms=[
            ArmFigures(
                name=arm.name,
                run_dir=arm.run_dir,
                method=arm.method,
                samples=max(len(arm.responses[p]) for p in prompts),
                tokens=_mean(arm, prompts, lambda r: float(r.tokens)),
                accuracy=_interval(values["accuracy"].get(arm.name), settings),
                reward=_interval(values["reward"].get(arm.name), settings),
                costs=costs[arm.name],
                over_reference={m: over[m][arm.name] for m in MEASURES if arm.name in over[m]},
                broken=_changed(arm, prompts, to=False),
                mended=_changed(arm, prompts, to=True),
                judging=judging(arm, prompts, _second(readings, arm), settings),
                distance=_distance(readings, arm, prompts, settings),
                fluency=fluency(arm, prompts, settings),
                yields=_yield(arm, prompts, hard),
                bands=_by_band(arm, groups),
                training=(models or {}).get(arm.name, ()),
                break_even=pays.get(arm.name),
            )
            for arm in arms
        ],
        curves=drawn,
        bands={name: len(members) for name, members in groups.items()},
    )


def _values(arm: Results, prompts: Sequence[str], measure: str) -> list[float] | None:
    """The mean over the samples of each prompt; None where a response has no such value."""
    name = "correct" if measure == "accuracy" else "reward"
    by_prompt = [[getattr(r, name) for r in arm.responses[p]] for p in prompts]
    if any(value is None for values in by_prompt for value in values):
        return None
    return [fmean(map(float, values)) for values in by_prompt]


def _break_even(
    values: Mapping[str, Mapping[str, list[float]]],
    costs: Mapping[str, Mapping[str, float]],
    drawn: Sequence[Curve],
    models: Mapping[str, Sequence[TrainedModel]],
) -> dict[str, BreakEven | None]:
    """By arm; accuracies are compared where there are answers, else rewards."""
    measure = "accuracy" if values["accuracy"] else "reward"
    scores = {name: (fmean(v), costs[name]["flops"]) for name, v in values[measure].items()}
    found = candidates(scores, drawn, models, graded=measure == "accuracy")
    return {one.name: break_even(one, found) for one in found if one.name == one.arm}


def _differences(
    values: Mapping[str, list[float]], reference: str, settings: Bootstrap
) -> dict[str, Difference]:
    if reference not in values:
        return {}
    others = {name: found for name, found in values.items() if name != reference}
    return differences(values[reference], others, settings)


def _interval(values: Sequence[float] | None, settings: Bootstrap) -> Interval | None:
    return None if values is None else mean(values, settings)


def _cost(name: str, response: Response) -> float:
    return response.costs[name]


def _mean(arm: Results, prompts: Sequence[str], value: Callable[[Response], float]) -> float:
    return fmean(fmean(map(value, arm.responses[p])) for p in prompts)


def _config(readings: Readings, arm: Results) -> Decoding | None:
    return readings[arm.name].config.decoding if readings and arm.name in readings else None


def _second(readings: Readings, arm: Results) -> bool:
    return bool(readings and arm.name in readings and readings[arm.name].second_judge)


def _distance(
    readings: Readings, arm: Results, prompts: Sequence[str], settings: Bootstrap
) -> Distance | None:
    task = readings.get(arm.name) if readings else None
    if task is None:
        return None
    return distance(arm, prompts, task.kind, task.config.decoding, settings)


def _changed(arm: Results, prompts: Sequence[str], *, to: bool) -> float | None:
    """The share of revised responses whose answer is now right (`to`) or wrong, and was not."""
    changed = [
        r.correct is to and r.base_correct is not to
        for p in prompts
        for r in arm.responses[p]
        if r.revised and r.correct is not None and r.base_correct is not None
    ]
    return fmean(changed) if changed else None


def _hard(base: Results, prompts: Sequence[str]) -> set[str] | None:
    """The prompts whose first response in the reference is wrong; None where one has no grade."""
    first = {p: base.responses[p][0].correct for p in prompts}
    return None if None in first.values() else {p for p, right in first.items() if not right}


def _yield(arm: Results, prompts: Sequence[str], hard: set[str] | None) -> Yield | None:
    responses = [r for p in prompts for r in arm.responses[p]]
    if any(r.correct is None for r in responses):
        return None
    attempts = {
        p: Attempts(
            right=sum(bool(r.correct) for r in arm.responses[p]), made=len(arm.responses[p])
        )
        for p in prompts
    }
    flops = sum(r.costs["flops"] for r in responses)
    return yield_of(Attempted(prompts=attempts, flops=flops), hard)


def bands(base: Results, prompts: Sequence[str]) -> dict[str, list[str]]:
    """The prompts by the length of the reference's first response (quarters), and by its pass rate:
    the share of right responses. Bands that hold no prompt are left out."""
    ordered = sorted(prompts, key=lambda p: (base.responses[p][0].tokens, p))
    found = {}
    for n in range(4):
        members = ordered[len(ordered) * n // 4 : len(ordered) * (n + 1) // 4]
        if members:
            lengths = [base.responses[p][0].tokens for p in (members[0], members[-1])]
            found[f"length, quarter {n + 1} ({lengths[0]} to {lengths[1]} tokens)"] = members
    rates = {p: _pass_rate(base.responses[p]) for p in prompts}
    for name, low, high in (
        ("pass rate 0", 0.0, 0.0),
        ("pass rate above 0, at most .5", 1e-9, 0.5),
        ("pass rate above .5, below 1", 0.5 + 1e-9, 1 - 1e-9),
        ("pass rate 1", 1.0, 1.0),
    ):
        members = [p for p, rate in rates.items() if rate is not None and low <= rate <= high]
        if members:
            found[name] = members
    return found


def _pass_rate(responses: Sequence[Response]) -> float | None:
    grades = [float(r.correct) for r in responses if r.correct is not None]
    return fmean(grades) if grades else None


def _by_band(arm: Results, groups: Mapping[str, Sequence[str]]) -> dict[str, float]:
    found = {}
    for name, prompts in groups.items():
        values = _values(arm, prompts, "accuracy")
        if values is not None:
            found[name] = fmean(values)
    return found
