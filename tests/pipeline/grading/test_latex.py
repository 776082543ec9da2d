"""LaTeX in one spelling, and taken apart."""

import pytest

from pipeline.grading import latex


@pytest.mark.parametrize(
    ("text", "one_spelling"),
    [
        (r"\frac43", r"\frac{4}{3}"),
        (r"\dfrac 59", r"\frac{5}{9}"),
        (r"\frac{270}7", r"\frac{270}{7}"),
        (r"\frac9{19}", r"\frac{9}{19}"),
        (r"11\sqrt2", r"11\sqrt{2}"),
        (r"\sqrt[3]2", r"\sqrt[3]{2}"),
        (r"\frac\pi2", r"\frac{\pi}{2}"),
        (r"\frac{\sqrt2}2", r"\frac{\sqrt{2}}{2}"),
        (r"1\frac{4}{5}", r"\frac{9}{5}"),
        (r"-2\tfrac12", r"-\frac{5}{2}"),
        (r"\left( 1,\! 2 \right)", "( 1, 2 )"),
        (r"10,\!080", "10,080"),
        (r"90^{\circ}", r"90\degree"),
        ("2\u221a3", r"2\sqrt{3}"),
        ("1 and 2", "1, 2"),
        (r"1 \\ 2", r"1 \\ 2"),
    ],
)
def test_one_spelling(text, one_spelling):
    assert latex.normalised(text) == one_spelling


def test_parts_are_outside_of_all_brackets():
    assert latex.split(r"(1,2], \{3,4\}, 5", ",") == ["(1,2]", r"\{3,4\}", "5"]
    assert latex.cut(r"1 < x \le \frac{a=b}{2}", r"<|=|\\le(?![a-z])") == (
        ["1", "x", r"\frac{a=b}{2}"], ["<", r"\le"],
    )  # fmt: skip


def test_enclosing_brackets():
    assert latex.enclosed("(1,2]") == ("(", "1,2", "]")
    assert latex.enclosed(r"\{ 1 \}") == (r"\{", "1", "}")
    assert latex.enclosed("(1)(2)") is None
    assert latex.enclosed("1") is None


def test_plus_and_minus_are_two_expressions():
    assert latex.signs(r"1 \pm 2 \mp x") == ["1 + 2 - x", "1 - 2 + x"]
    assert latex.signs("1 + 2") == ["1 + 2"]


def test_cells_of_a_matrix():
    assert latex.matrix(r"\begin{pmatrix} 1 & 2 \\[2pt] 3 & 4 \\ \end{pmatrix}") == (
        "", [["1", "2"], ["3", "4"]],
    )  # fmt: skip
    assert latex.matrix(r"\begin{vmatrix} 1 \end{vmatrix}") == ("v", [["1"]])
    assert latex.matrix("1") is None
