"""When training pays: what counts as a rival, and what is not known."""

import json
from dataclasses import asdict, replace

import pytest

from nabla_core.config import Decoding, NablaConfig, Ranked, Sampling
from nabla_core.embedded.weights import folder
from nabla_core.model_config import LM, Reward
from pipeline.compare.break_even import Candidate, break_even, candidates
from pipeline.compare.config import Bootstrap
from pipeline.compare.curves import Curve
from pipeline.compare.report import markdown
from pipeline.compare.summary import summarise
from pipeline.compare.training import TrainedModel, trained_models, uses_guide
from pipeline.generate.config import GenerateConfig
from pipeline.training.cost import COST, TrainingCost, cost_of, total_of_data
from tests.pipeline.compare.arms import arm

COST_OF_GUIDE = TrainingCost(steps=60.0, samples=10.0, measurements=20.0, data=10.0, seconds=9.0)
JUDGE = TrainedModel(
    role="judge", name="judge", revision="j", cost=replace(COST_OF_GUIDE, data=900)
)
GUIDE = TrainedModel(role="guide", name="guide", revision="g", cost=COST_OF_GUIDE)
UNTOLD = replace(GUIDE, cost=None)


def one(name, score, flops, *models):
    return Candidate(arm=name, name=name, score=score, flops=flops, models=models)


GUIDED = one("guided", 0.8, 2.0, JUDGE, GUIDE)
GREEDY = one("greedy", 0.5, 1.0)


def test_training_pays_after_what_it_saves():
    rivals = [GREEDY, one("best of 8", 0.85, 9.0, JUDGE), one("best of 4", 0.8, 5.0, JUDGE)]
    found = break_even(GUIDED, [GUIDED, *rivals])
    # 100 FLOPs, of which each prompt saves 3.
    assert (found.state, found.rival, found.training, found.prompts) == (
        "pays",
        "best of 4",
        100,
        34,
    )
    # Against a rival without the judge that of the judge counts too: 100 + 990.
    found = break_even(GUIDED, [*rivals, one("majority", 0.8, 4.0)])
    assert (found.rival, found.training, found.prompts) == ("majority", 1090, 545)


def test_training_never_pays_against_a_rival_that_costs_no_more():
    found = break_even(GUIDED, [one("best of 2", 0.8, 2.0, JUDGE)])
    assert (found.state, found.prompts) == ("never", None)


def test_where_no_rival_is_as_good_the_best_one_is_named():
    found = break_even(GUIDED, [GREEDY, one("best of 8", 0.7, 9.0, JUDGE)])
    # It is also cheaper, by 7 a prompt.
    assert (found.state, found.rival, found.prompts) == ("unmatched", "best of 8", 15)
    dear = break_even(replace(GUIDED, flops=9.0), [one("best of 8", 0.7, 9.0, JUDGE)])
    assert (dear.state, dear.prompts) == ("unmatched", None)


def test_what_a_card_does_not_tell_is_unknown_and_not_0():
    untold = one("guided", 0.8, 2.0, JUDGE, UNTOLD)
    found = break_even(untold, [one("best of 8", 0.85, 9.0, JUDGE)])
    assert (found.state, found.training, found.prompts) == ("unknown", None, None)
    data = replace(GUIDE, cost=replace(COST_OF_GUIDE, data=None))
    found = break_even(one("guided", 0.8, 2.0, JUDGE, data), [one("best of 8", 0.85, 9.0, JUDGE)])
    assert found.state == "unknown"


def test_a_trained_arm_is_no_rival_and_an_untrained_one_has_none():
    assert break_even(GUIDED, [one("search", 0.9, 9.0, JUDGE, GUIDE)]) is None
    assert break_even(GREEDY, [GUIDED, GREEDY]) is None


def test_samples_and_proposals_are_rivals_and_pass_at_k_is_none():
    def curve(name, kind):
        costs = {"flops": [1.0, 3.0]}
        return Curve(arm=name, kind=kind, samples=[1, 2], accuracy=[0.5, 0.8], costs=costs)

    kinds = ("pass@k", "majority of k", "best of k")
    drawn = [*(curve("sample", kind) for kind in kinds), curve("search", "at most k proposals")]
    models = {"sample": [], "search": [JUDGE, GUIDE], "best": [JUDGE]}
    found = candidates({"sample": (0.5, 1.0)}, drawn, models, graded=True)
    assert {c.name: [m.role for m in c.models] for c in found if c.flops != 1.0} == {
        "sample, majority of 2": [],
        "sample, best of 2": ["judge"],
        "search, at most 2 proposals": ["judge", "guide"],
    }


def test_a_comparison_tells_when_training_pays():
    arms = [
        arm("greedy", {"p": [(1.0, True)], "q": [(0.0, False)]}),
        arm("best", {"p": [(1.0, True)], "q": [(1.0, True)]}, cost=1e6),
        arm("guided", {"p": [(1.0, True)], "q": [(1.0, True)]}, cost=5e5),
    ]
    models = {"greedy": [], "best": [JUDGE], "guided": [JUDGE, GUIDE]}
    found = summarise(arms, "greedy", Bootstrap(resamples=200), models=models)
    assert [a.break_even and a.break_even.state for a in found.arms] == [None, "unmatched", "pays"]
    assert json.dumps(found.as_dict())
    text = markdown(found)
    assert "| guided | judge, guide | best | 1.000 | 1.0 | 0.5 | after 1 prompts |" in text
    assert "| best | judge | greedy | 0.500 | 0.0 | 1.0 | no untrained method is as good |" in text


def ranked(beta):
    return Decoding("nabla", nabla=NablaConfig(proposals="ranked", ranked=Ranked(beta=beta)))


@pytest.mark.parametrize(
    ("decoding", "used"),
    [
        (Decoding("greedy"), False),
        (Decoding("best_of_n"), False),
        (Decoding("guided", guided=Sampling(beta=1.0)), True),
        (Decoding("ggro"), True),
        (ranked(1.0), True),
        (ranked(None), False),
        (Decoding("nabla", nabla=NablaConfig(proposals="second")), False),
    ],
)
def test_methods_that_use_a_guide(decoding, used):
    assert uses_guide(decoding) is used


def roles(tmp_path, decoding, **more):
    config = GenerateConfig(decoding=decoding, **more)
    return [model.role for model in trained_models(str(tmp_path), config, LM())]


def test_arms_depend_on_the_models_that_they_use(tmp_path):
    head = Reward(guide="embedded-head")
    assert roles(tmp_path, Decoding("greedy"), reward=head) == []
    assert roles(tmp_path, Decoding("majority"), reward=head) == []
    assert roles(tmp_path, Decoding("beam"), reward=head) == ["judge"]
    # The judge is its own guide; a guide of its own has learned from the judge.
    assert roles(tmp_path, ranked(1.0)) == ["judge"]
    judge = str(folder("judge"))
    assert roles(tmp_path, ranked(1.0), reward=Reward(guide=judge)) == ["judge"]
    # `embedded` is another model as a guide than as a judge.
    assert roles(tmp_path, ranked(1.0), reward=Reward(guide="embedded")) == ["judge", "guide"]
    assert roles(tmp_path, Decoding("guided"), reward=head) == ["judge", "guide"]
    policy = LM(path=str(folder("judge")))
    assert roles(tmp_path, Decoding("greedy"), lm=policy) == ["policy", "judge"]
    # The base LM by another name is no policy.
    assert roles(tmp_path, Decoding("greedy"), lm=LM(path=str(folder("lm")))) == []


def test_costs_are_read_from_the_card_beside_the_weights(tmp_path):
    (tmp_path / "manifest.json").write_text(
        json.dumps({"models": {"generation": {"name": "mine", "revision": "sha256:1"}}})
    )
    config = GenerateConfig(decoding=Decoding("greedy"), lm=LM(path=str(tmp_path)))
    (policy, _) = trained_models(str(tmp_path), config, LM())
    assert (policy.name, policy.revision, policy.cost) == ("mine", "sha256:1", None)
    (tmp_path / "card.json").write_text(json.dumps({COST: asdict(COST_OF_GUIDE)}))
    (policy, _) = trained_models(str(tmp_path), config, LM())
    assert policy.cost == COST_OF_GUIDE
    assert policy.cost.flops == 100.0


@pytest.mark.parametrize("card", [{}, {COST: None}, {COST: {"steps": 1.0}}, {COST: [1]}])
def test_a_card_without_a_cost_tells_none(card):
    assert cost_of(card) is None
    wrong = {COST: {**asdict(COST_OF_GUIDE), "steps": "many"}}
    assert cost_of(wrong) is None


def test_data_is_unknown_where_one_source_does_not_tell():
    assert total_of_data([{"flops": 1.0}, {"flops": 2}]) == 3.0
    assert total_of_data([{"flops": 1.0}, {}]) is None
