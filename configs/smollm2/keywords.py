"""The task of this folder: one short sentence that uses three given words.

    python configs/smollm2/keywords.py FOLDER

writes `train.jsonl`, `validation.jsonl` and `test.jsonl` into the folder, always the same prompts.
The words of the three files are disjoint. `grade` is the verifier (`verify.function`).
"""

from __future__ import annotations

import json
import random
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

# Two nouns and a quality are drawn for each prompt.
NOUNS = """
anchor apple arrow artist attic autumn baker balcony basket beach bell bench bicycle blanket boat
book bottle bridge brother bucket butterfly cabin camera candle captain carpet castle cat cave
chair cheese chimney church clock cloud coat coffee corner cousin cradle curtain dancer desert
doctor dog donkey door dragon dream drum eagle engine evening farmer feather fence field fire
fisherman flag flower forest fox friend garden gate ghost gift giraffe glove goat grandmother
guitar hammer harbor hat hill honey horse hospital hotel island jacket journey judge kettle key
king kitchen kite ladder lake lamp lantern lawyer leaf lemon letter library lion machine map
market meadow melody mirror monkey moon morning mountain mouse museum nurse ocean office onion
orchard owl painter parade parrot path pencil piano pillow pilot pirate planet pocket poem pond
potato prince puzzle queen rabbit radio rain ribbon river road robot rose sailor salad sandwich
scarf school shadow sheep shelf ship shoe sister snow soldier song soup spider spoon station
stone storm student sugar suitcase summer sun table tailor teacher temple tiger tower town train
tree tunnel turtle uncle valley village violin wagon wall watch whale wheel window winter wolf
"""
QUALITIES = """
ancient angry blue bold brave bright broken busy calm careful clean clever cold cozy curious
dark deep dry dusty early easy empty famous fast fresh friendly full funny gentle giant golden
good gray green happy heavy hidden hollow hot huge hungry kind large lazy light little lonely
long loud lucky narrow new nice noisy old orange pale perfect pink poor pretty proud purple quick
quiet rare red rich round rusty sad secret sharp shiny short shy silent silver simple sleepy slow
small smooth soft strange strong sudden sweet tall tiny tired warm wet white wide wild wise
wooden yellow young
"""
FILES = {"train": 4000, "validation": 300, "test": 1000}
# Of each list, the share of words in each file.
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}

WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
SENTENCE = re.compile(r"[A-Z\"“][^.!?\n]*[.!?][\"”]?")
LONGEST = 25
JOINING = {"and", "or", "the", "a", "an"}


def grade(prompt: dict[str, Any], response: str) -> bool:
    """Whether a response is one short sentence with all words of `prompt["answer"]` ("a, b, c").

    It begins with a capital letter, ends once, and has at most 25 words, half of them its own.
    Every given word is in it, as it is given, in the plural or with a possessive s. They are no
    list: other words than "and", "or" and articles stand among them. No three words in a row come
    twice, no word twice in a row, none but an article more than twice. It has at most two commas,
    and no colons, brackets or digits.
    """
    text = response.strip()
    words = [word.lower() for word in WORD.findall(text)]
    stems = [stem(word) for word in words]
    given = given_stems(prompt["answer"])
    return (
        SENTENCE.fullmatch(text) is not None
        and re.search(r"[^A-Za-z'’\"“”,.!?\s-]", text) is None
        and text.count(",") <= 2
        and 2 * len(given) <= len(words) <= LONGEST
        and set(given) <= set(stems)
        and not _listed(words, [stem in given for stem in stems])
        and not _repeats(words)
    )


def given_stems(answer: str) -> list[str]:
    """The words that a prompt asks for, by their stems."""
    return [stem(word.strip()) for word in answer.split(",")]


def stem(word: str) -> str:
    """A word without a plural or possessive s: "church's" and "churches" are "church"."""
    for end in ("'s", "’s", "es", "s"):
        stem = word.removesuffix(end)
        if stem != word and len(stem) > 2:
            return stem.removesuffix("e")
    return word.removesuffix("e")


def _listed(words: list[str], given: list[bool]) -> bool:
    """Whether the given words are a list: nothing but "and", "or" and articles between them."""
    first, last = given.index(True), len(given) - 1 - given[::-1].index(True)
    return all(given[n] or words[n] in JOINING for n in range(first, last))


def _repeats(words: list[str]) -> bool:
    if any(first == second for first, second in pairwise(words)):
        return True
    triples = [tuple(words[n : n + 3]) for n in range(len(words) - 2)]
    often = {word for word in words if words.count(word) > 2} - {"the", "a", "an"}
    return len(set(triples)) < len(triples) or bool(often)


def prompts(name: str) -> list[dict[str, str]]:
    """The prompts of a file, each with an id and its words as the expected answer."""
    rng = random.Random(f"keywords {name}")
    nouns, qualities = (_words(words.split(), name) for words in (NOUNS, QUALITIES))
    seen: set[tuple[str, ...]] = set()
    made = []
    while len(made) < FILES[name]:
        chosen = [*rng.sample(nouns, 2), rng.choice(qualities)]
        rng.shuffle(chosen)
        if tuple(chosen) in seen:
            continue
        seen.add(tuple(chosen))
        words = ", ".join(chosen)
        question = f"Write one short sentence that uses all of these words: {words}."
        made.append({"id": f"{name}/{len(made)}", "prompt": question, "answer": words})
    return made


def _words(words: list[str], name: str) -> list[str]:
    """The words of a list that belong to a file."""
    shuffled = sorted(words)
    random.Random("keywords").shuffle(shuffled)
    ends, total = {}, 0.0
    for part, share in SHARES.items():
        begin, total = round(total * len(words)), total + share
        ends[part] = shuffled[begin : round(total * len(words))]
    return ends[name]


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        lines = "".join(json.dumps(row) + "\n" for row in prompts(name))
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
