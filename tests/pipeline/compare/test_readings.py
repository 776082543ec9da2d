"""What is read of responses once they are made: KL, a second judge, grades on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nabla_core.config import MCTS, BestOfN, Decoding, NablaConfig, Ranked, Sampling, Steps
from pipeline.compare.config import Bootstrap
from pipeline.compare.divergence import fluency
from pipeline.compare.reader import read_arm
from pipeline.compare.readings import ReadRow, kind_of, read_reading
from pipeline.compare.report import markdown
from pipeline.compare.results import Results
from pipeline.compare.summary import summarise
from pipeline.store.files import Folder
from tests.pipeline.compare.arms import response
from tests.pipeline.compare.runs import make, settings, task_of

SETTINGS = Bootstrap(resamples=200)
SEARCH = NablaConfig(
    max_rollouts=5,
    proposals="ranked",
    ranked=Ranked(min_score=-9.0, reward_weight=2.0),
    rollout=Sampling(0),
)


def test_a_search_tells_what_shorter_searches_would_have_given(tmp_path):
    """Accuracy, reward and costs of one run are those of a run of each length."""
    whole = settings(tmp_path / "search", Decoding(nabla=SEARCH))
    arm, task = make(whole), task_of(whole, tmp_path, second_judge="embedded")
    assert not task.finished()
    read_arm(task)
    assert task.finished()
    arm.attach(Folder(str(tmp_path)), task.file)
    found = summarise([arm], "search", SETTINGS, {"search": task})
    (curve,) = found.curves
    assert list(curve.samples) == [1, 2, 4, 5]
    assert "seconds" not in curve.costs
    for n, k in ((0, 1), (2, 4)):
        config = settings(tmp_path / f"{k}", Decoding(nabla=replace(SEARCH, max_rollouts=k)))
        short = summarise([make(config)], str(k), SETTINGS).arms[0]
        assert short.accuracy is not None
        assert short.reward is not None
        assert curve.accuracy is not None
        assert curve.reward is not None
        assert curve.accuracy[n] == pytest.approx(short.accuracy.mean)
        assert curve.reward[n] == pytest.approx(short.reward.mean, abs=1e-4)
        for name in ("paper_calls", "generated_tokens"):
            assert curve.costs[name][n] == pytest.approx(short.costs[name])
    # The second judge is the first one here.
    judging = found.arms[0].judging
    assert judging.second_reward is not None
    assert found.arms[0].reward is not None
    assert judging.second_reward.mean == pytest.approx(found.arms[0].reward.mean, abs=1e-4)
    assert judging.second_auc == judging.auc
    assert judging.unread == 0
    assert judging.mended is not None
    assert judging.mended > 0
    # Greedy tails of a greedy response: a point, whose KL is its negative log-likelihood.
    distance = found.arms[0].distance
    assert distance is not None
    assert distance.kind == "one response"
    assert distance.kl == distance.nll
    assert distance.nll.mean > 0
    # Responses of one length: the mean over tokens and prompts is that over prompts, divided.
    assert {r.tokens for group in arm.responses.values() for r in group} == {16}
    assert found.arms[0].fluency is not None
    assert found.arms[0].fluency.mean == pytest.approx(-distance.nll.mean / 16)
    # Another judge makes a reading of its own.
    assert not replace(task, second_judge=None).finished()
    assert "| search | at most k proposals | 5 |" in markdown(found)


def test_a_sampled_policy_has_a_divergence_and_a_search_a_bound(tmp_path):
    sampled = settings(
        tmp_path / "sample",
        Decoding(method="sample", sample=Sampling(1.0)),
        samples_per_prompt=3,
    )
    colder = replace(
        sampled,
        run_dir=str(tmp_path / "colder"),
        decoding=Decoding(method="sample", max_tokens=20, sample=Sampling(0.5)),
    )
    guided = replace(
        sampled,
        run_dir=str(tmp_path / "guided"),
        decoding=Decoding(method="guided", max_tokens=20, guided=Sampling(1.0, beta=1.0)),
    )
    best = settings(
        tmp_path / "best", Decoding(method="best_of_n", best_of_n=BestOfN(4, Sampling(1.0)))
    )
    arms, tasks = [], {}
    for config in (sampled, colder, guided, best):
        task = task_of(config, tmp_path, kl_samples=2)
        arm = make(config)
        read_arm(task)
        arm.attach(Folder(str(tmp_path)), task.file)
        arms.append(arm)
        tasks[task.name] = task
    found = summarise(arms, "sample", SETTINGS, tasks)
    distances = {arm.name: arm.distance for arm in found.arms}
    for name, least in (("colder", 0.01), ("guided", 0.1)):
        one = distances[name]
        assert one is not None
        assert one.kl is not None
        assert one.plain is not None
        assert one.kl.mean > least
        # The Rao-Blackwellised estimate has the smaller error.
        assert one.kl.high - one.kl.low < one.plain.high - one.plain.low
    own, bounded = distances["sample"], distances["best"]
    assert own is not None
    assert own.kl == pytest.approx((0, 0, 0), abs=1e-6)
    assert own.plain == pytest.approx((0, 0, 0), abs=1e-4)
    assert bounded is not None
    assert (bounded.kl, bounded.kind) == (None, "search")
    assert bounded.bound == pytest.approx(1.386294 - 0.75)
    # Of three responses to a prompt two are read.
    rows = dict(read_reading(Folder(str(tmp_path)), "sample.parquet"))
    assert [rows[key].kl is None for key in sorted(rows)] == [False, False, True] * 6


def test_fluency_is_the_mean_over_prompts_of_the_log_likelihood_a_token():
    one = Results(name="one", run_dir="runs/one")
    group = {"p": [(4, -2.0), (2, -4.0)], "q": [(8, -4.0), (8, None)]}
    one.responses = {
        prompt: [replace(response(n, 1.0, True, tokens=t), read=_read(p)) for n, (t, p) in rows]
        for prompt, rows in ((prompt, enumerate(rows)) for prompt, rows in group.items())
    }
    # Of p: -2/4 and -4/2, which is -1.25; of q, whose second response was not read: -4/8.
    found = fluency(one, ["p", "q"], SETTINGS)
    assert found is not None
    assert found.mean == pytest.approx((-1.25 - 0.5) / 2)
    assert (found.low, found.high) == pytest.approx((-1.25, -0.5))
    one.responses["q"] = one.responses["q"][1:]
    assert fluency(one, ["p", "q"], SETTINGS) is None


def _read(log_reference: float | None) -> ReadRow:
    return ReadRow(
        log_reference=log_reference, log_policy=None, kl=None, second_reward=None, stages=None
    )


@pytest.mark.parametrize(
    ("decoding", "kind"),
    [
        (Decoding(method="greedy"), "one response"),
        (Decoding(method="sample"), "sampled"),
        (Decoding(method="guided"), "one response"),
        (Decoding(nabla=SEARCH), "one response"),
        (Decoding(nabla=replace(SEARCH, proposals="random")), "search"),
        (Decoding(nabla=replace(SEARCH, proposals="left_to_right")), "search"),
        (Decoding(nabla=replace(SEARCH, rollout=Sampling(1.0))), "search"),
        (Decoding(method="mcts", mcts=MCTS(steps=Steps())), "search"),
        (Decoding(method="ggro"), "one response"),
        (Decoding(method="mh"), "search"),
    ],
)
def test_which_arms_give_one_response_to_a_prompt(decoding, kind):
    assert kind_of(decoding) == kind
