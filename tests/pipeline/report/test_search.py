"""What a search reads: the same rows as a look through all of them, and the rows of every id."""

import random

import numpy as np
import pytest

from pipeline.report import search
from pipeline.report.search import id_bits, id_hash, id_scripts, terms_data


def read(terms, shards):
    """The rows of each term, as the page reads them."""
    count = int(np.frombuffer(terms, "<u4", 1)[0])
    sizes = np.frombuffer(terms, "<u2", count, 4).astype("i8")
    text = terms[4 + 2 * count :].decode().split("\n") if count else []
    starts = np.cumsum(sizes) - sizes
    shard_of = starts // search.SHARD
    found = {}
    for term, size, start, shard in zip(text, sizes, starts, shard_of, strict=True):
        base = starts[shard_of == shard][0]
        gaps = np.frombuffer(shards[shard], "<u2", size, 2 * (start - base))
        found[term] = np.cumsum(gaps.astype("i8")).tolist()
    assert sum(map(len, shards)) == 2 * sizes.sum()
    return found


def held(lines):
    """The same, looked up row by row."""
    found = {}
    for row, line in enumerate(lines):
        name, _, *rest = line.split("\t")
        for term in sorted({*name.split(), *" ".join(rest).split()}):
            found.setdefault(term, []).append(row)
    return found


@pytest.mark.parametrize("shard", [40, 100_000])
def test_each_term_has_the_rows_that_hold_it_whatever_the_shards(monkeypatch, shard):
    monkeypatch.setattr(search, "SHARD", shard)
    draw = random.Random(1)
    words = ["the", "The", "é", "日本", "x=1", "<b>", "1", "\ufeff", "a\u200bb"]
    lines = [
        f"set {n}\t0\t{' '.join(draw.choices(words, k=3))}\t{draw.choice(words)}\t{n % 7}"
        for n in range(40)
    ]
    terms, shards = terms_data(lines)
    assert len(shards) == (1 if shard > 1000 else 6)
    assert read(terms, shards) == held(lines)


def test_the_last_row_of_a_block_and_rows_without_words_are_rows_too():
    lines = ["\t0\t\t\t"] * 65_535 + ["last\t3\tend\t\t"]
    assert read(*terms_data(lines)) == {"last": [65_535], "end": [65_535]}
    assert read(*terms_data(["\t0\t\t\t"])) == {}


def test_an_id_is_searched_as_it_is_and_a_sample_is_no_word():
    found = read(*terms_data(["tab\\tline\\nback\\\\t\t7\tq\t\t"]))
    assert sorted(found) == ["back\\t", "line", "q", "tab"]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 100])
def test_the_rows_of_an_id_are_in_the_script_that_its_hash_names(monkeypatch, count):
    monkeypatch.setattr(search, "IDS", 4)
    hashes = np.array([id_hash(f"p{n // 2}") for n in range(count)], dtype="u4")
    scripts = list(id_scripts(hashes))
    bits = id_bits(count)
    assert len(scripts) == 1 << bits
    for row, wanted in enumerate(hashes):
        both = np.frombuffer(scripts[int(wanted) >> (32 - bits)], "<u4").reshape(2, -1)
        assert row in both[1][both[0] == wanted]
        assert (np.diff(both[0].astype("i8")) >= 0).all()
