"""Which traces are kept, and why the others are not."""

import json
from collections import Counter

import pytest

from pipeline.errors import InputError
from pipeline.export.config import Decontamination, ExportConfig, Filters, NearDuplicates, Split
from pipeline.export.near_duplicates import band_rows
from tests.pipeline.export.runs import exported, rows_of, trace, write_run

REWARDS = (3.0, 1.0, 2.0, None, 2.0, 0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Six prompts with one sample each; n is right where it is even, changed where below 3."""
    rows = [
        trace(
            f"p{n}", "3." if n % 3 else "55;3.", "4." if n < 3 else None, question=f"{n}+2=",
            reward=reward, base_reward=None if reward is None else 1.0, correct=n % 2 == 0,
        )
        for n, reward in enumerate(REWARDS)
    ]  # fmt: skip
    return write_run(tmp_path_factory.mktemp("runs") / "run", rows)


def kept(out) -> list[str]:
    return [row["prompt_id"] for row in rows_of(out)]


@pytest.mark.parametrize(
    ("filters", "expected", "dropped"),
    [
        (Filters(), "012345", {}),
        (Filters(verified=True), "024", {"not verified": 3}),
        (Filters(min_reward=2.0), "024", {"reward below min_reward": 3}),
        (Filters(min_gain=1.0), "024", {"gain below min_gain": 3}),
        (Filters(changed=True), "012", {"not changed": 3}),
        (Filters(min_tokens=4), "03", {"shorter than min_tokens": 4}),
        (Filters(max_tokens=3), "1245", {"longer than max_tokens": 2}),
        (Filters(top_fraction=0.5), "024", {"reward below the top fraction": 3}),
        (Filters(top_fraction=1.0), "01245", {"no reward": 1}),
        (Filters(min_pass_rate=0.5), "024", {"pass rate below min_pass_rate": 3}),
        (Filters(max_pass_rate=0.5), "135", {"pass rate above max_pass_rate": 3}),
        # A row is counted once, with the first reason.
        (
            Filters(verified=True, changed=True, top_fraction=0.5),
            "0",
            {"not verified": 3, "not changed": 1, "reward below the top fraction": 1},
        ),
    ],
)
def test_a_filter_keeps_these_and_counts_the_others(run, tmp_path, filters, expected, dropped):
    facts = exported(tmp_path / "out", run, filters=filters).facts
    assert kept(tmp_path / "out") == [f"p{n}" for n in expected]
    assert facts["dropped"] == dropped
    assert facts["read"] == facts["kept"] + sum(dropped.values())


def test_the_best_samples_of_a_prompt_are_kept(tmp_path):
    rows = [
        trace(name, "3.", sample=n, question=question, reward=reward)
        for name, question in (("a", "1+2="), ("b", "2+1="))
        for n, reward in enumerate((1.0, 3.0, 3.0, 2.0))
    ]
    run = write_run(tmp_path / "run", rows)
    facts = exported(tmp_path / "out", run, filters=Filters(best_of_samples=2)).facts
    found = [(row["prompt_id"], row["sample"]) for row in rows_of(tmp_path / "out")]
    assert found == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert facts["dropped"] == {"not among the best samples of its prompt": 4}


def test_pass_rates_are_of_all_samples_of_a_prompt_over_all_runs(tmp_path):
    def samples(name: str, right: list[bool], question: str) -> list[dict]:
        return [trace(name, sample=n, question=question, correct=c) for n, c in enumerate(right)]

    first = samples("a", [True, False], "1+2=") + samples("b", [True, True], "2+1=")
    runs = [
        write_run(tmp_path / "one", first),
        write_run(tmp_path / "two", samples("a", [False, False], "1+2=")),
    ]
    exported(tmp_path / "out", *runs, filters=Filters(min_pass_rate=0.2, max_pass_rate=0.3))
    assert kept(tmp_path / "out") == ["a"] * 4
    exported(tmp_path / "rl", *runs, format="rl")
    rates = [(r["prompt_id"], r["pass_rate"], r["samples"]) for r in rows_of(tmp_path / "rl")]
    assert rates == [("a", 0.25, 4), ("b", 1.0, 2)]


WORDS = "a train leaves the station at nine and arrives at noon how long does it take"


def test_rows_of_a_benchmark_are_left_out_and_listed_with_what_they_hit(tmp_path):
    benchmark = tmp_path / "bench.jsonl"
    lines = [{"question": "unrelated words"}, {"question": f"{WORDS}?", "answer": "3"}]
    benchmark.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [
        trace("clean", "3."),
        trace("prompt", "3.", question=f"Now: {WORDS.upper()}!"),
        trace("response", "3.", question="1+5=", response_text=""),
        trace("seven", "3.", question=" ".join(WORDS.split()[:7])),
        trace("short", "3.", question="Unrelated, words."),
    ]
    del rows[2]["response_text"]
    rows[2]["response"] = f"I recall: {' '.join(WORDS.split()[3:11])} ..."
    run = write_run(tmp_path / "run", rows)
    decontamination = Decontamination(benchmarks=(str(benchmark),))
    facts = exported(
        tmp_path / "out", run, format="rl", filters=Filters(decontamination=decontamination)
    ).facts
    assert kept(tmp_path / "out") == ["clean", "seven"]
    assert facts["dropped"] == {"shares words with a benchmark": 3}
    listed = [json.loads(x) for x in (tmp_path / "out/contaminated.jsonl").read_text().splitlines()]
    found = {(x["prompt_id"], x["benchmark"], x["location"], x["words"]) for x in listed}
    assert found == {
        ("prompt", "bench.jsonl", "bench.jsonl:2", " ".join(WORDS.split()[:8])),
        ("response", "bench.jsonl", "bench.jsonl:2", " ".join(WORDS.split()[3:11])),
        ("short", "bench.jsonl", "bench.jsonl:1", "unrelated words"),
    }


def test_a_benchmark_without_texts_is_refused(run, tmp_path):
    (tmp_path / "bench.jsonl").write_text('{"id": 1}\n')
    filters = Filters(decontamination=Decontamination(benchmarks=(f"{tmp_path}/bench.jsonl",)))
    with pytest.raises(InputError, match=r"bench\.jsonl has no text in a column of prompt, "):
        exported(tmp_path / "out", run, filters=filters)


def test_near_duplicates_of_an_earlier_row_are_left_out(tmp_path):
    long = " ".join(f"word{n}" for n in range(60))
    questions = {
        "first": long,
        "other": " ".join(f"else{n}" for n in range(60)),
        "edited": long.replace("word59", "end"),
        "equal": long,
        "half": " ".join([*long.split()[:30], *(f"new{n}" for n in range(30))]),
    }
    rows = [trace(name, "3.", question=text) for name, text in questions.items()]
    run = write_run(tmp_path / "run", rows)
    near = NearDuplicates(threshold=0.8, text="prompt")
    facts = exported(
        tmp_path / "out", run, format="groups", filters=Filters(near_duplicates=near)
    ).facts
    assert kept(tmp_path / "out") == ["first", "other", "half"]
    assert facts["dropped"] == {"near duplicate of an earlier row": 2}


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 1.0])
def test_bands_miss_one_pair_in_a_thousand_at_most(threshold):
    size = band_rows(128, threshold)
    assert (1 - threshold**size) ** (128 // size) <= 1e-3
    assert size == 128 or (1 - threshold ** (size + 1)) ** (128 // (size + 1)) > 1e-3


def test_a_prompt_is_in_one_split_by_the_seed_whatever_else_is_exported(tmp_path):
    def rows(names: range) -> list[dict]:
        return [
            trace(f"p{n}", sample=s, question=f"{n}+2=", reward=float(n))
            for n in names
            for s in (0, 1)
        ]

    runs = [
        write_run(tmp_path / "a", rows(range(100))),
        write_run(tmp_path / "b", rows(range(100, 160))),
    ]
    split = Split(held_out=0.25, seed=3)
    exported(tmp_path / "one", runs[0], split=split)
    exported(tmp_path / "two", runs[1], runs[0], split=split, filters=Filters(min_reward=10.0))
    found = [
        {
            name: {r["prompt_id"] for r in rows_of(tmp_path / out, name)}
            for name in ("train", "test")
        }
        for out in ("one", "two")
    ]
    assert all(not each["train"] & each["test"] for each in found)
    assert 15 < len(found[0]["test"]) < 35
    assert found[1]["test"] & found[0]["train"] == set()
    counts = Counter(r["prompt_id"] for r in rows_of(tmp_path / "one", "test"))
    assert set(counts.values()) == {2}
    exported(tmp_path / "three", runs[0], split=Split(held_out=0.25, seed=4))
    assert {r["prompt_id"] for r in rows_of(tmp_path / "three", "test")} != found[0]["test"]


def test_responses_to_a_prompt_are_gathered_from_all_runs_in_order(tmp_path):
    def rows(run: int) -> list[dict]:
        return [
            trace(f"p{n}", f"{run}.", question=f"{n}+2=", reward=n + run / 10) for n in range(40)
        ]

    runs = [write_run(tmp_path / str(k), rows(k), rows_per_file=7) for k in range(3)]
    exported(tmp_path / "out", *runs, format="groups", rows_per_file=9)
    found = rows_of(tmp_path / "out")
    assert [row["prompt_id"] for row in found] == [f"p{n}" for n in range(40)]
    for n, row in enumerate(found):
        assert [c[0]["content"] for c in row["completions"]] == ["0.", "1.", "2."]
        assert row["rewards"] == [n + k / 10 for k in range(3)]
    traces = rows_of(tmp_path / "out", config="metadata")
    assert [row["run"] for row in traces] == ["0", "1", "2"] * 40


def test_rewards_of_different_judges_are_not_compared(tmp_path):
    runs = [
        write_run(tmp_path / "a", [trace("a")]),
        write_run(tmp_path / "b", [trace("b", question="2+1=", judge_revision="sha256:other")]),
    ]
    with pytest.raises(
        InputError, match=r"filters\.top_fraction: rewards of different judges .*other"
    ):
        exported(tmp_path / "out", *runs, filters=Filters(top_fraction=0.5))
    assert exported(tmp_path / "out", *runs).facts["kept"] == 2


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        (Filters, {"top_fraction": 0.0}, "filters.top_fraction must be above 0 and at most 1"),
        (Filters, {"min_pass_rate": 0.5, "max_pass_rate": 0.1}, "min_pass_rate 0.5 is above"),
        (Filters, {"min_tokens": 3, "max_tokens": 2}, "filters.min_tokens 3 is above"),
        (Filters, {"best_of_samples": 0}, "filters.best_of_samples must be at least 1"),
        (NearDuplicates, {"threshold": 1.5}, "near_duplicates.threshold must be above 0"),
        (Split, {"held_out": 1.0}, "split.held_out must be at least 0 and below 1"),
        (ExportConfig, {"run_dir": ()}, "run_dir: name at least one run folder"),
        (
            ExportConfig,
            {"run_dir": ("a",), "format": "kto", "filters": Filters(verified=True)},
            "filters.verified leaves no wrong response, which format=kto needs",
        ),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_by_name(section, settings, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        section(**settings)
