"""What a driver does with the reports of workers, without any worker."""

from collections import Counter

import pytest

from pipeline.errors import LeaseError, LoadError, RunError
from pipeline.run.prompt_status import PromptState, PromptStatus
from tests.pipeline.run.test_driver import run

__all__ = ["run"]


@pytest.fixture
def rounds(run):
    return run._rounds()


def statuses(*counts):
    """So many statuses of each state, in this order."""
    return [
        PromptStatus((f"{state}{n}", 0), state, "why")
        for state, count in counts
        for n in range(count)
    ]


DONE, DEAD, DEFERRED = PromptState.DONE, PromptState.DEAD, PromptState.DEFERRED


@pytest.mark.parametrize(
    ("reports", "goes_on"),
    [
        (statuses((DEAD, 19)), True),
        (statuses((DEAD, 20)), False),
        (statuses((DONE, 10), (DEAD, 10)), True),
        (statuses((DONE, 10), (DEAD, 11)), False),
        (statuses((PromptState.ALREADY_COMMITTED, 10), (DEAD, 10)), True),
        # A deferred prompt has not ended.
        (statuses((DEFERRED, 50), (DEAD, 19)), True),
    ],
)
def test_a_run_ends_early_where_too_many_of_at_least_twenty_prompts_are_dead(
    rounds, reports, goes_on
):
    assert rounds._follow(reports, Counter()) == ("completed" if goes_on else "too_many_dead")


def test_dead_letters_of_earlier_rounds_count(rounds):
    assert rounds._follow(statuses((DONE, 1)), Counter({DEAD: 20})) == "too_many_dead"


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (PromptState.LOAD_FAILED, LoadError, "^why$"),
        (PromptState.COMMIT_FAILED, RunError, "cannot commit rows to .*: why"),
    ],
)
def test_a_report_that_no_later_prompt_can_do_better_ends_the_run(rounds, state, error, message):
    with pytest.raises(error, match=message):
        rounds._follow(statuses((DONE, 1), (state, 1)), Counter())


def test_a_driver_that_lost_its_lease_stops_following(run):
    run._on_lease_lost()
    rounds = run._rounds()
    with pytest.raises(LeaseError, match="was taken over by another driver"):
        rounds._follow(statuses((DONE, 1)), Counter())
    # Also where no status comes: the actors may be as long suspended.
    with pytest.raises(LeaseError, match="was taken over by another driver"):
        rounds._while_waiting()
