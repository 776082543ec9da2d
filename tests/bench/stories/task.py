"""Stories: six days of gaining and losing things, in sentences that come in any order.

    on Sunday he has 7 shells . he loses 3 on Tuesday . Eva gives him 5 on Monday . Gus finds 4
    on Wednesday . ... how many each day ?

The response is `Monday +5 12 ; Tuesday -3 9 ; Wednesday +0 9 ; ...`: for each day the change and
the count after it. What somebody else finds or sells changes nothing. The last count is the answer;
all six days are the trace. The templates follow GSM-Symbolic (Mirzadeh et al., arXiv 2410.05229):
names, things and numbers are drawn at random.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal, get_args

from nabla_core.embedded.task import Grade, Split
from nabla_core.types import Prompt

Operation = Literal["add", "take", "double", "halve", "nothing"]

STEPS = 6
LARGEST = 20
SEPARATOR = ";"
WORDS = 4  # words per day, the separator included
SIGNS: dict[str, str] = {"add": "+", "take": "-", "double": "*", "halve": "/", "nothing": "+"}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
OTHERS = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana")
THINGS = ("apples", "books", "shells", "stamps", "marbles", "cards")
PRONOUNS = (("he", "him"), ("she", "her"))
TEMPLATES: dict[Operation, tuple[str, ...]] = {
    "add": (
        "{who} finds {n} on {day} .",
        "{who} buys another {n} on {day} .",
        "{other} gives {whom} {n} on {day} .",
    ),
    "take": (
        "{who} loses {n} on {day} .",
        "{who} gives {other} {n} on {day} .",
        "{who} sells {other} {n} on {day} .",
    ),
    "double": ("{who} gets as many again on {day} .", "{other} doubles them on {day} ."),
    "halve": ("{who} loses half on {day} .", "{who} gives {other} half on {day} ."),
    "nothing": ("{other} finds {n} on {day} .", "{other} sells {n} on {day} ."),
}
NUMBERS: dict[Operation, int] = {"double": 2, "halve": 2, "nothing": 0}
WEIGHTS: dict[Operation, int] = {"add": 4, "take": 4, "double": 1, "halve": 1, "nothing": 1}
QUESTION = "how many each day ?"


@dataclass(frozen=True, slots=True)
class Story:
    """The count before the first day, the weekday before it, and six changes in order of days."""

    start: int
    eve: int
    changes: tuple[tuple[Operation, int], ...]
    text: str

    @property
    def days(self) -> tuple[str, ...]:
        """The days after the first."""
        return tuple(DAYS[(self.eve + k) % len(DAYS)] for k in range(1, len(self.changes) + 1))

    @property
    def counts(self) -> list[int]:
        """The right counts."""
        found, count = [], self.start
        for operation, number in self.changes:
            count = changed(count, operation, number)
            found.append(count)
        return found

    def response(self, counts: list[int]) -> str:
        """The response with the right changes and these counts."""
        days = zip(self.days, self.changes, counts, strict=True)
        return f" {SEPARATOR} ".join(
            f"{day} {SIGNS[operation]}{number} {count}" for day, (operation, number), count in days
        )


def changed(count: int, operation: Operation, number: int) -> int:
    """The count after a change, or -1 for half of an odd count. `double` and `halve` have the
    number 2, `nothing` has 0."""
    match operation:
        case "add" | "nothing":
            return count + number
        case "take":
            return count - number
        case "double":
            return 2 * count
        case "halve":
            return count // 2 if count % 2 == 0 else -1


def possible(count: int, operation: Operation, number: int) -> bool:
    """Whether the count after a change is from 0 to 20."""
    return 0 <= changed(count, operation, number) <= LARGEST


def story(rng: random.Random, steps: int = STEPS) -> Story:
    """One random story, of any split. Other numbers of days than six are for training."""
    start = count = rng.randint(2, 12)
    eve = rng.randrange(len(DAYS))
    who, whom = rng.choice(PRONOUNS)
    things = rng.choice(THINGS)
    changes: list[tuple[Operation, int]] = []
    while len(changes) < steps:
        operation = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        number = NUMBERS[operation] if operation in NUMBERS else rng.randint(1, 9)
        if possible(count, operation, number):
            count = changed(count, operation, number)
            changes.append((operation, number))
    sentences = []
    for index, (operation, number) in enumerate(changes, start=1):
        day = DAYS[(eve + index) % len(DAYS)]
        words = {"who": who, "whom": whom, "other": rng.choice(OTHERS)}
        seen = number if operation != "nothing" else rng.randint(1, 9)
        sentences.append(rng.choice(TEMPLATES[operation]).format(n=seen, day=day, **words))
    rng.shuffle(sentences)
    opening = f"on {DAYS[eve]} {who} has {start} {things} ."
    return Story(start, eve, tuple(changes), " ".join((opening, *sentences, QUESTION)))


def stories(count: int, rng: random.Random, split: Split, steps: int = STEPS) -> list[Story]:
    """Random stories of one split."""
    found: list[Story] = []
    while len(found) < count:
        one = story(rng, steps)
        if split_of(one.text) == split:
            found.append(one)
    return found


def prompts(count: int, *, seed: int, split: Split) -> list[Prompt]:
    """`count` prompts of one split, ids `stories/<split>/<seed>/<index>`; answers are the last
    counts. Splits are disjoint for all seeds. Raises ValueError on an unknown split."""
    if split not in get_args(Split):
        raise ValueError(f"split {split!r} is none of {', '.join(get_args(Split))}")
    rng = random.Random(f"stories/{split}/{seed}")
    return [
        Prompt.of(s.text, id=f"stories/{split}/{seed}/{index}", answer=str(s.counts[-1]))
        for index, s in enumerate(stories(count, rng, split))
    ]


def split_of(text: str) -> Split:
    """The split of a text, by its hash: 80 % train, 10 % validation, 10 % test."""
    bucket = hashlib.blake2b(text.encode(), digest_size=8).digest()[0] % 10
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def read(text: str) -> Story:
    """Parse a prompt. Raises ValueError if the text is not a story of six days."""
    opening, *sentences = text.removesuffix(f" {QUESTION}").split(" .")
    words = opening.split()
    changes = {}
    for sentence in filter(None, (s.split() for s in sentences)):
        changes[sentence[-1]] = _change(sentence)
    try:
        eve = DAYS.index(words[1])
        days = [DAYS[(eve + k) % len(DAYS)] for k in range(1, STEPS + 1)]
        return Story(int(words[4]), eve, tuple(changes[day] for day in days), text)
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(f"{text!r} is no story of {STEPS} days") from error


def _change(words: list[str]) -> tuple[Operation, int]:
    number = next((int(word) for word in words if word.isdigit()), 2)
    mine = words[0] in ("he", "she")
    if "half" in words:
        return "halve", number
    if "doubles" in words or "again" in words:
        return "double", number
    if mine:
        return ("add" if words[1] in ("finds", "buys") else "take"), number
    return ("add", number) if words[1] == "gives" else ("nothing", 0)


def sound_steps(story: Story, response: list[str]) -> list[bool]:
    """For each day of a response, whether its day, change, count and separator are right, given
    the count that the response has for the day before. The last day has no separator."""
    sound, before = [], story.start
    for index, (day, (operation, number)) in enumerate(zip(story.days, story.changes, strict=True)):
        words = response[WORDS * index : WORDS * (index + 1)]
        count = changed(before, operation, number)
        wanted = [day, f"{SIGNS[operation]}{number}", str(count)]
        if index < STEPS - 1:
            wanted.append(SEPARATOR)
        sound.append(words == wanted)
        before = int(words[2]) if len(words) > 2 and words[2].isdigit() else -100
    return sound


def grade(prompt_text: str, response_text: str) -> Grade:
    """Grade a response, without its stop token. `answer`: the last of six counts is right."""
    story = read(prompt_text)
    counts = story.counts
    parts = [part.split() for part in response_text.split(SEPARATOR)]
    whole = len(parts) == STEPS and len(parts[-1]) == WORDS - 1 and parts[-1][-1].isdigit()
    predicted = parts[-1][-1] if whole else None
    right = predicted == str(counts[-1])
    return Grade(right, " ".join(response_text.split()) == story.response(counts), predicted)
