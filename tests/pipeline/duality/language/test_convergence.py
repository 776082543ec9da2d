"""J on held-out prompts, and when it has stopped rising."""

import torch

from pipeline.duality.language.convergence import Plateau, evaluate
from pipeline.duality.language.embedded_models import Sample

BETA = 2.0


def sample_of(reward, log_ref, log_q):
    nothing = torch.zeros_like(reward, dtype=torch.bool)
    return Sample(
        responses=torch.zeros(*reward.shape, 16, dtype=torch.int64),
        reward=reward,
        log_ref=log_ref,
        log_q=log_q,
        answer=torch.zeros_like(reward, dtype=torch.int64),
        correct=nothing,
        all_steps_correct=nothing,
    )


def rule():
    return Plateau(patience=2, cuts=1, factor=10.0, rate=1.0)


def test_j_is_reward_minus_beta_kl_and_its_spread_tells_the_distance_to_the_optimum():
    reward = torch.tensor([[1.0, 3.0], [2.0, 2.0]], dtype=torch.float64)
    log_ref = torch.tensor([[-2.0, -3.0], [-1.0, -1.0]], dtype=torch.float64)
    log_q = torch.tensor([[-1.0, -3.0], [-1.0, -0.5]], dtype=torch.float64)
    found, by_prompt = evaluate(
        sample_of(reward, log_ref, log_q), BETA, step=25, learning_rate=1e-3
    )
    # r - 2 log(q / p): -1 and 3; 2 and 1.
    assert by_prompt.tolist() == [1.0, 1.5]
    assert found.objective.value == 1.25
    assert found.kl.value == (1.0 + 0.0 + 0.0 + 0.5) / 4
    # Variances 8 and .5, their mean over 2 beta.
    assert found.shortfall == 4.25 / 4


def test_at_the_optimum_nothing_is_short():
    log_ref = torch.tensor([[-1.0, -2.0, -4.0]], dtype=torch.float64)
    reward = torch.tensor([[0.0, 1.0, 5.0]], dtype=torch.float64)
    log_z = (log_ref + reward / BETA).logsumexp(1, keepdim=True)
    optimum = log_ref + reward / BETA - log_z
    found, _ = evaluate(sample_of(reward, log_ref, optimum), BETA, step=0, learning_rate=1e-3)
    assert found.shortfall < 1e-12


def test_a_gain_within_its_standard_error_is_none():
    plateau = rule()
    noise = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    assert plateau.gains(noise)
    # .4 a prompt, with a standard error of .577: the difference to `noise` is .4 + noise.
    assert not plateau.gains(2 * noise + 0.4)
    assert plateau.gains(noise + 0.4)  # the same .4, with no error


def test_training_stops_where_neither_rate_gains():
    plateau = rule()
    values = [0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    taken = []
    for value in values:
        plateau.gains(torch.full((4,), value))
        taken.append((plateau.rate, plateau.stopped))
    assert taken == [
        *[(1.0, False)] * 3,
        (0.1, False),  # after two without a gain
        (0.1, False),
        (0.1, False),
        (0.01, True),
    ]
