"""The grading method that fits the answers of an input."""

import pytest

from pipeline.grading.guess import guess_method
from tests.shared_data import rows

NONE = "the prompts have no answers, so responses are not graded"


@pytest.mark.parametrize(
    ("answers", "method", "reason"),
    [
        ([], "none", NONE),
        ([None, None], "none", NONE),
        (["", " ", None], "none", NONE),
        (["42", "-3.5", "1,234", "3/4", "$5", ".5", "1e3", None], "last_number", "all 7 answers"),
        (["She has 3.\n#### 72", "#### -1"], "last_number", "all 2 answers are numbers"),
        (["42", r"\frac{1}{2}"], "math", "1 of 2 answers are no plain numbers"),
        ([r"\boxed{3}"], "math", "1 of 1 answers"),
        (["50%", "x^2+1", "[1,2]", "B"], "math", "4 of 4 answers"),
        # One that cannot be read is refused by the id of its prompt, not by giving up on the rest.
        (["42", "x", "{"], "math", "2 of 3 answers"),
        (["{", "}", "x"], "none", "2 of 3 answers are no mathematics"),
    ],
)
def test_the_method_fits_all_answers(answers, method, reason):
    guess = guess_method(iter(answers))
    assert guess.method == method
    assert guess.reason.startswith(reason)


@pytest.mark.parametrize(
    ("file", "method"),
    [
        ("gsm8k_test.jsonl", "last_number"),
        ("math500.jsonl", "math"),
        ("aime2024.jsonl", "last_number"),
        ("amc23.jsonl", "last_number"),
    ],
)
def test_the_method_of_sets_that_people_have(file, method):
    assert guess_method(str(row["answer"]) for row in rows(file)).method == method
