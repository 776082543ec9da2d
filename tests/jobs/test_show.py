"""`nabla show` prints one trace as the demo does."""

import pytest

from jobs import show
from tests.pipeline.export.runs import revision, trace, write_run

FIRST, SECOND, THIRD = "1;2;3", "1;2;4", "5;2;4"


def revised(name, **columns):
    one = revision(FIRST, SECOND, (0.5, 1.5))
    return trace(name, SECOND, FIRST, base_reward=0.5, reward=1.5, revisions=[one], **columns)


def revised_twice(name):
    one, two = revision(FIRST, SECOND, (0.5, 1.5)), revision(SECOND, THIRD, (1.5, 2.5))
    return trace(name, THIRD, FIRST, base_reward=0.5, reward=2.5, revisions=[one, two])


ROWS = [
    trace("plain"),
    revised_twice("twice"),
    revised("once"),
    trace("once", "7", sample=1),
    trace("tooled", tools='[{"type": "function", "function": {"name": "add"}}, {"name": "now"}]'),
    trace("dead", error="ValueError: too \x1b[31mlong"),
    trace("odd\x1b[2J", question="\u202eabc", expected_answer=None, reward=None),
]


@pytest.fixture
def shown(tmp_path, capsys):
    def run(*words, finished=True, rows=ROWS):
        path = write_run(tmp_path / "run", rows, finished=finished)
        code = show.main([f"run_dir={path}", *words])
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err

    return run


@pytest.mark.parametrize("finished", [True, False])
def test_without_an_id_it_is_a_trace_that_one_revision_made_right(shown, finished):
    code, lines, _ = shown(finished=finished)
    assert code == 0
    assert lines[:4] == [
        "once",
        "  prompt  1+2=",
        "  before  1;2;[3]  reward 0.500, wrong",
        "  after   1;2;[4]  reward 1.500, right",
    ]
    assert "gold    3" in lines[4]
    assert [x.split() for x in lines[-1:]] == [
        ["4", "3", "4", "0.200", "0.500", "->", "1.500", "accepted"]
    ]


def test_each_of_several_revisions_is_marked(shown):
    _, lines, _ = shown("twice")
    assert lines[2:5] == [
        "  before  1;2;[3]  reward 0.500, wrong",
        "       1  [1];2;[4]  reward 1.500",
        "  after   [5];2;4  reward 2.500, right",
    ]


def test_without_the_tokenizer_of_the_run_nothing_is_marked_that_is_not_known(shown):
    other = [{**row, "tokenizer_fingerprint": "sha256:other"} for row in ROWS]
    _, lines, _ = shown("twice", rows=other)
    assert lines[2:4] == [
        "  before  1;2;3  reward 0.500, wrong",
        "  after   5;2;4  reward 2.500, right",
    ]
    code, _, error = shown("twice", "--tokenizer", "embedded", rows=other)
    assert code == 2
    assert "embedded is not the tokenizer of this run" in error


def test_a_sample_is_chosen_by_number(shown):
    _, lines, _ = shown("once", "--sample", "1")
    assert (lines[0], lines[3]) == ("once, sample 1", "  after   7  reward 1.000, right")
    assert shown("once")[1][0] == "once"


def test_the_names_of_tools_are_shown(shown):
    _, lines, _ = shown("tooled")
    assert "  tools   add, now" in lines
    assert not any(line.startswith("  tools") for line in shown("plain")[1])


def test_texts_of_others_reach_no_terminal_as_they_are(shown):
    _, lines, _ = shown("dead")
    assert lines[2] == "  dead letter, attempt 1: ValueError: too \\x1b[31mlong"
    _, lines, _ = shown("odd\x1b[2J")
    assert lines[:3] == [
        "odd\\x1b[2J",
        "  prompt  \\u202eabc",
        "  before  3.  reward unknown, right",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody"], "has no row of prompt 'nobody'"),
        (["once", "--sample", "7"], "has no row of prompt 'once' and sample 7"),
        (["--sample", "7"], "--sample needs the id of a prompt"),
        (["once", "--tokenizer", "no/where/at/all"], "no/where/at/all holds no tokenizer.json"),
    ],
)
def test_what_is_not_there_is_named(shown, words, message):
    code, lines, error = shown(*words)
    assert (code, lines) == (2, [])
    assert message in error


def test_an_unfinished_run_says_so(shown):
    assert "and the run is not finished" in shown("nobody", finished=False)[2]


def test_a_run_without_revisions_shows_its_first_trace(shown):
    code, lines, _ = shown(rows=[trace("plain"), trace("other")])
    assert (code, lines[0]) == (0, "plain")


def test_a_run_of_dead_letters_asks_for_an_id(shown):
    assert (
        "all of its rows are dead letters" in shown(rows=[trace("gone", error="ValueError: x")])[2]
    )


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert show.main([f"run_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is no run folder\n"
