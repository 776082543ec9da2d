import pytest

from nabla_core.types import Identity
from pipeline.run.ledger import Ledger, Process

A, B = ("a", 0), ("b", 0)
ONE, TWO, THREE = (Process(f"w{n}", "node") for n in range(3))


def new_ledger(alive=lambda node: True):
    return Ledger(2, alive)


def test_prompts_of_a_process_that_died_are_deferred_without_losing_an_attempt():
    ledger = new_ledger()
    assert ledger.begin(A, ONE, 0).action == "run"
    assert ledger.begin(B, ONE, 0).action == "run"
    ledger.end(B)
    assert ledger.begin(A, TWO, 0).action == "defer"
    assert ledger.begin(A, TWO, 0).action == "defer"
    assert ledger.suspects([A, B]) == [[A]]
    decision = ledger.begin(A, TWO, 1)
    assert (decision.action, decision.attempt) == ("run", 1)
    ledger.end(A)
    assert ledger.suspects([A, B]) == []


def test_a_prompt_that_kills_alone_is_given_up_after_its_own_attempts():
    ledger = new_ledger()
    ledger.begin(A, ONE, 0)
    ledger.begin(A, TWO, 0)
    assert ledger.begin(A, ONE, 1).attempt == 1
    ledger.blame("w0", "no progress for 3 s")
    assert ledger.begin(A, TWO, 1).attempt == 2
    decision = ledger.begin(A, THREE, 1)
    assert (decision.action, decision.attempt) == ("give_up", 2)
    assert decision.reason.startswith("WorkerDied: 2 processes died on it alone; the last: killed")


def test_the_reason_a_worker_gave_is_kept():
    ledger = Ledger(1, lambda node: True)
    ledger.begin(A, ONE, 1)
    ledger.blame("w0", "no progress for 3 s")
    assert ledger.begin(A, TWO, 1).reason.endswith("the last: no progress for 3 s")


@pytest.mark.parametrize("count", [1, 7, 8, 9, 96, 500])
def test_a_killer_is_found_among_many_and_no_neighbour_loses_an_attempt(count):
    ledger = Ledger(3, lambda node: True)
    keys = [(f"p{n}", 0) for n in range(count)]
    poison = keys[count // 2]
    deaths = 0

    def place():
        return Process(f"w{deaths}", "node")

    for key in keys:
        assert ledger.begin(key, place(), 0).action == "run"
    deaths += 1
    given_up, ended = None, set()
    for key in keys:
        assert ledger.begin(key, place(), 0).action == "defer"
    while groups := ledger.suspects([key for key in keys if key not in ended]):
        for group in groups:
            left = group
            while left:
                decisions = {key: ledger.begin(key, place(), len(group)) for key in left}
                left = [key for key, decision in decisions.items() if decision.action == "run"]
                assert all(decisions[key].attempt == 1 for key in left if key != poison)
                if poison in decisions and decisions[poison].action == "give_up":
                    given_up = decisions[poison]
                    ledger.end(poison, given_up.reason)
                    ended.add(poison)
                elif poison in left:
                    deaths += 1
                    continue
                for key in left:
                    ledger.end(key)
                    ended.add(key)
                left = []
    assert given_up is not None
    assert given_up.attempt == 3
    assert ended == set(keys)
    levels = {1: 0, 7: 0, 8: 0, 9: 1, 96: 2, 500: 2}[count]
    assert deaths == 1 + levels + 3


def test_what_died_together_is_divided_again_and_again():
    ledger = new_ledger()
    keys = [(f"p{n}", 0) for n in range(20)]
    for key in keys:
        ledger.begin(key, ONE, 0)
    for key in keys:
        assert ledger.begin(key, TWO, 0).action == "defer"
    groups = ledger.suspects(keys)
    assert [len(group) for group in groups] == [3, 3, 3, 3, 3, 3, 2]
    assert [key for group in groups for key in group] == keys
    for key in groups[0]:
        assert ledger.begin(key, TWO, 3).action == "run"
    for key in groups[0]:
        assert ledger.begin(key, THREE, 3).action == "defer"
    assert ledger.suspects(groups[0]) == [[key] for key in groups[0]]


def test_deaths_of_nodes_count_against_nobody():
    ledger = new_ledger(alive=lambda node: False)
    for place in (ONE, TWO, THREE) * 3:
        assert ledger.begin(A, place, 0).action == "run"
    assert ledger.suspects([A, B]) == []
    for group in (1, 5):
        for place in (ONE, TWO, THREE) * 3:
            decision = ledger.begin(A, place, group)
            assert (decision.action, decision.attempt) == ("run", 1)


def test_a_committed_prompt_whose_news_was_lost_is_made_again_only_if_its_row_is_missing():
    ledger = new_ledger()
    ledger.begin(A, ONE, 0)
    ledger.begin(B, ONE, 0)
    ledger.end(A)
    ledger.end(B, "E: dead")
    assert (ledger.begin(A, TWO, 0).action, ledger.begin(A, TWO, 0).reason) == ("skip", None)
    assert (ledger.begin(B, TWO, 0).action, ledger.begin(B, TWO, 0).reason) == ("skip", "E: dead")
    assert ledger.suspects([A]) == []
    assert ledger.begin(A, TWO, 0).action == "run"


def test_a_stopped_run_begins_nothing():
    ledger = new_ledger()
    assert not ledger.stopped()
    ledger.stop()
    assert ledger.stopped()
    assert ledger.begin(A, ONE, 0).action == "stop"


def test_a_run_that_is_drained_begins_nothing_and_its_workers_go_on():
    ledger = new_ledger()
    ledger.drain()
    assert not ledger.stopped()
    assert ledger.begin(A, ONE, 0).action == "stop"


def test_a_finished_prompt_is_forgotten_once_the_driver_has_its_report():
    ledger = new_ledger()
    for number in range(1000):
        keys = [(f"p{number}", sample) for sample in range(2)]
        for key in keys:
            ledger.begin(key, ONE, 0)
        ledger.end(keys[0])
        ledger.end(keys[1], "E: dead")
        assert ledger.begin(keys[0], TWO, 0).action == "skip"
        ledger.reported(keys)
    assert sizes(ledger) == [0, 0, 0, 0]
    assert ledger.open_keys() == []


def test_between_rounds_the_ledger_keeps_the_missing_suspects_alone():
    ledger = new_ledger()
    lost, committed = [(f"p{n}", 0) for n in range(9)], [(f"c{n}", 0) for n in range(9)]
    for key in [*lost, *committed]:
        ledger.begin(key, ONE, 0)
    for key in [*lost[:5], *committed[:5]]:
        ledger.begin(key, TWO, 0)
    ledger.end(B)
    assert set(ledger.open_keys()) == {*lost, *committed}
    assert ledger.suspects(lost) == [[key] for key in lost[:5]]
    assert sizes(ledger) == [4, 0, 5, 0]
    assert set(ledger.open_keys()) == set(lost)


def sizes(ledger):
    """How many prompts the ledger knows as running, with attempts, as suspects and as ended."""
    known = (ledger._running, ledger._attempts, ledger._suspects, ledger._ended)
    return [len(keys) for keys in known]


def test_the_first_worker_with_a_role_decides_on_its_model():
    ledger = new_ledger()
    lm, other, judge = (Identity(n, "sha256:1") for n in ("lm", "other", "judge"))
    assert ledger.agree({"lm": lm}) == {"lm": lm}
    assert ledger.agree({"lm": other, "judge": judge}) == {"lm": lm, "judge": judge}
