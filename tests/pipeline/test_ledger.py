from pipeline.ledger import Ledger, Place

A, B = ("a", 0), ("b", 0)
ONE, TWO, THREE = (Place(f"w{n}", "node") for n in range(3))


def ledger(alive=lambda node: True):
    return Ledger(2, alive)


def test_prompts_of_a_process_that_died_are_put_off_without_losing_an_attempt():
    book = ledger()
    assert book.begin(A, ONE, alone=False).action == "run"
    assert book.begin(B, ONE, alone=False).action == "run"
    book.end(B)
    assert book.begin(A, TWO, alone=False).action == "later"
    assert book.begin(A, TWO, alone=False).action == "later"
    assert book.suspects([A, B]) == [A]
    verdict = book.begin(A, TWO, alone=True)
    assert (verdict.action, verdict.attempt) == ("run", 1)
    book.end(A)
    assert book.suspects([A, B]) == []


def test_a_prompt_that_kills_alone_is_given_up_after_its_own_attempts():
    book = ledger()
    book.begin(A, ONE, alone=False)
    book.begin(A, TWO, alone=False)
    assert book.begin(A, ONE, alone=True).attempt == 1
    book.blame("w0", "no progress for 3 s")
    assert book.begin(A, TWO, alone=True).attempt == 2
    verdict = book.begin(A, THREE, alone=True)
    assert (verdict.action, verdict.attempt) == ("give_up", 2)
    assert verdict.reason.startswith("WorkerDied: 2 processes died on it alone; the last: killed")


def test_the_reason_a_worker_gave_is_kept():
    book = Ledger(1, lambda node: True)
    book.begin(A, ONE, alone=True)
    book.blame("w0", "no progress for 3 s")
    assert book.begin(A, TWO, alone=True).reason.endswith("the last: no progress for 3 s")


def test_deaths_of_nodes_count_against_nobody():
    book = ledger(alive=lambda node: False)
    for place in (ONE, TWO, THREE) * 3:
        assert book.begin(A, place, alone=False).action == "run"
    assert book.suspects([A, B]) == []
    for place in (ONE, TWO, THREE) * 3:
        assert book.begin(A, place, alone=True).attempt == 1


def test_a_committed_prompt_whose_news_was_lost_is_made_again_only_if_its_row_is_missing():
    book = ledger()
    book.begin(A, ONE, alone=False)
    book.end(A)
    assert book.begin(A, TWO, alone=False).action == "again"
    assert book.suspects([A]) == []
    assert book.begin(A, TWO, alone=False).action == "run"


def test_a_stopped_run_begins_nothing():
    book = ledger()
    assert not book.stopped()
    book.stop()
    assert book.stopped()
    assert book.begin(A, ONE, alone=False).action == "stop"
