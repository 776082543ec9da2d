"""Signs of reward hacking, and the choice among rounds."""

from dataclasses import replace

from pipeline.improve.evaluation import Evaluation, Gains, PromptResult
from pipeline.improve.rounds import Figures, Round, choose, reward_hacked, use_of
from pipeline.intervals import Interval

UP, DOWN, FLAT = Interval(0.2, 0.1, 0.3), Interval(-0.2, -0.3, -0.1), Interval(0.0, -0.1, 0.1)


def round_(number: int, accuracy: float | None, reward: float = 0.0, **more) -> Round:
    guide = f"guide {number}" if number else None
    return Round(
        number=number,
        guide=guide,
        reward=reward,
        accuracy=accuracy,
        calls=10.0,
        top1=None,
        counterfactuals=0,
        **more,
    )


def test_the_reward_is_hacked_where_it_rises_and_accuracy_falls():
    assert reward_hacked(UP, DOWN)
    assert not reward_hacked(UP, FLAT)
    assert not reward_hacked(FLAT, DOWN)
    assert not reward_hacked(DOWN, DOWN)
    assert not reward_hacked(UP, None)
    # Rewards of another judge have another scale.
    assert not reward_hacked(None, DOWN)


def test_only_what_is_clearly_worse_is_not_used_by_accuracy_if_there_are_answers():
    assert use_of(Gains(DOWN, FLAT), "the LM").used
    assert use_of(Gains(DOWN, FLAT), "the LM").reason == (
        "accuracy is not clearly different from that of the LM: +0.000 [-0.100, +0.100]"
    )
    assert not use_of(Gains(UP, DOWN), "the LM").used
    assert not use_of(Gains(DOWN, None), "the LM").used
    assert use_of(Gains(UP, None), "the LM").reason.startswith("reward is above that of the LM")


def test_a_round_counts_with_the_way_in_which_its_models_answer_best():
    alone = Figures(reward=0.0, accuracy=0.95, calls=17.0)
    rounds = [round_(1, 0.9), round_(2, 0.85, greedy=alone, way="greedy")]
    assert choose(rounds).number == 2
    assert choose([rounds[0], replace(rounds[1], way="decoding")]).number == 1


def test_the_best_round_without_reward_hacking_is_chosen():
    rounds = [
        round_(0, 0.5),
        round_(1, 0.8, 1.0),
        round_(2, 0.7, 2.0),
        round_(3, 0.9, 3.0, reward_hacked=True),
    ]
    assert choose(rounds).number == 1
    ungraded = [replace(r, accuracy=None) for r in rounds]
    assert choose(ungraded).number == 2
    cheaper = [round_(0, 0.8), replace(round_(1, 0.8), calls=5.0)]
    assert choose(cheaper).number == 1


def test_gains_are_paired_by_prompt_and_accuracy_is_of_prompts_with_an_answer():
    before = Evaluation(
        {"a": PromptResult(1.0, 0.0), "b": PromptResult(5.0, None), "c": PromptResult(0.0, 1.0)},
        10.0,
    )
    after = Evaluation(
        {"a": PromptResult(2.0, 1.0), "b": PromptResult(6.0, None), "d": PromptResult(9.0, 0.0)},
        8.0,
    )
    reward, accuracy = after.gains(before)
    assert reward == Interval(1.0, 1.0, 1.0)
    assert accuracy == Interval(1.0, 1.0, 1.0)
    assert (before.reward, before.accuracy) == (2.0, 0.5)
    ungraded = Evaluation({"b": PromptResult(5.0, None)}, 10.0)
    assert ungraded.accuracy is None
    assert ungraded.gains(before) == (Interval(0.0, 0.0, 0.0), None)
