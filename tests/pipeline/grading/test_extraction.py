"""Where the answer stands in a response and in an expected answer."""

import pytest

from pipeline.grading.extraction import expected_answer, final_answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        # The last complete box.
        (r"so \boxed{\frac{1}{2}} it is, 3 times", r"\frac{1}{2}"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{1} no, \boxed{2", "1"),
        (r"guess: 4 ... \boxed{1", None),
        (r"\fbox {7}", "7"),
        (r"\boxed{3}, \boxed{5}, and $\boxed{7}$", "3, 5, 7"),
        (r"\boxed{2} ... so again \boxed{2}", "2"),
        (r"\boxed{\left\{ 1, 2 \right\}}", r"\left\{ 1, 2 \right\}"),
        # Marks and announcements.
        ("6 * 7 = 42\n#### 42", "42"),
        ("#### Step 1\nAdd 2 and 3.\n#### 5", "5"),
        ("#### Step 1\nAdd 2 and 3 to get 5", "5"),
        ("The answer is $x+1$.", "x+1"),
        ("**Answer:** 3/4", "3/4"),
        ("The answer is (C).", "(C)"),
        ("The final answer is: Evelyn", "Evelyn"),
        ("The answer is 5 because 2 + 3 is 5.", "5"),
        # Formulas; dollar signs are prices too.
        (r"Thus \[ x^2 + 1 \]", "x^2 + 1"),
        (r"Thus \( \frac{1}{2} \).", r"\frac{1}{2}"),
        ("We get $1$, $2$ and $3$.", "1, 2, 3"),
        ("He paid $5 and got $3 back", "3"),
        ("13 * 2 = $<<13*2=26>>26\nShe makes $26", "26"),
        ("that is $10-$4=$6", "6"),
        # A part of a formula is no answer.
        (r"The length is 3\sqrt{13}.", r"3\sqrt{13}"),
        ("It is 5x here", "5x"),
        ("p - q", "p - q"),
        ("I do not know at all", None),
        ("", None),
    ],
)
def test_final_answers(response, answer):
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"3\sqrt{13}", r"3\sqrt{13}"),
        ("$x^2$", "$x^2$"),
        ("6 * 7 = <<6*7=42>>42\n#### 42", "42"),
        ("#### 1,234", "1,234"),
        (r"Adding gives $\boxed{5}$ and 3 more steps.", "5"),
        ("We add.\nThe answer is $7$.", "7"),
    ],
)
def test_expected_answers(gold, answer):
    assert expected_answer(gold) == answer
