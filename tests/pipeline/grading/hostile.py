"""Answers that are made to cost a grader time or memory."""

HOSTILE = {
    "a factorial of factorials": r"\boxed{((9!)!)!}",
    "a huge exponent": r"\boxed{1e999999999}",
    "a huge power": r"\boxed{10^{999999999}}",
    "digits": "7" * 100_000,
    "digits in a box": "\\boxed{" + "7" * 100_000 + "}",
    "nested parentheses": "\\boxed{" + "(" * 5000 + "1" + ")" * 5000 + "}",
    "nested braces": "\\boxed{" + "{" * 50_000 + "1" + "}" * 50_000 + "}",
    "nested fractions": "\\boxed{" + "\\frac{1}{" * 300 + "2" + "}" * 300 + "}",
    "fractions": "\\frac12" * 15_000,
    "boxes that are cut off": "\\boxed{" * 15_000,
    "dollar signs": "$" * 100_000,
    "formulas": "$a$ " * 25_000,
    "brackets": "\\[" * 50_000,
    "announcements": "answer is " * 10_000,
    "spaces": "1" + " " * 100_000 + "2",
    "signs": "\\boxed{" + r"\pm 1" * 200 + "}",
    "minus signs": "\\boxed{" + "-" * 1900 + "1}",
}


def peak_megabytes(process: int) -> float:
    """The most memory that a process had so far, in MB."""
    with open(f"/proc/{process}/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000
