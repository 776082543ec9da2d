"""What a row of each format holds."""

import pytest

from pipeline.errors import InputError
from tests.pipeline.export.runs import exported, revision, rows_of, tokens, trace, write_run

STOP = 1
ANSWER = [{"role": "assistant", "content": "3."}]
QUESTION = [{"role": "user", "content": "1+2="}]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three prompts with two samples each; of `b` both are wrong, and one was cut by length."""
    rows = [
        trace("a", "3.", "4.", reward=2.0, base_reward=1.0,
              revisions=[revision("4.", "3.", (1, 2))]),
        trace("a", "5.", sample=1, correct=False, reward=0.5),
        trace("b", "7.", question="4+5=", answer="9", correct=False, reward=0.25),
        trace("b", "77", question="4+5=", answer="9", sample=1, correct=False, finish="length"),
        trace("c", "8.", question="6+2=", answer="8", system="2*2", earlier=[*QUESTION, *ANSWER]),
        trace("c", "8.", question="6+2=", answer="8", sample=1, correct=None,
              system="2*2", earlier=[*QUESTION, *ANSWER]),
    ]  # fmt: skip
    return write_run(tmp_path_factory.mktemp("runs") / "run", rows)


def test_prompt_and_completion_are_messages_with_system_and_earlier_turns(run, tmp_path):
    facts = exported(tmp_path / "out", run).facts
    rows = rows_of(tmp_path / "out")
    assert rows[0] == {"prompt": QUESTION, "completion": ANSWER, "prompt_id": "a", "sample": 0}
    assert rows[3]["prompt"] == [
        {"role": "system", "content": "2*2"},
        *QUESTION,
        *ANSWER,
        {"role": "user", "content": "6+2="},
    ]
    assert facts["dropped"] == {"cut by length": 1}
    assert (facts["read"], facts["kept"], facts["splits"]) == (6, 5, {"train": 5})


def test_messages_hold_the_whole_conversation(run, tmp_path):
    exported(tmp_path / "out", run, layout="messages")
    first, *_ = rows_of(tmp_path / "out")
    assert first == {"messages": QUESTION + ANSWER, "prompt_id": "a", "sample": 0}


def test_texts_end_in_the_stop_token(run, tmp_path):
    exported(tmp_path / "out", run, layout="text")
    rows = rows_of(tmp_path / "out")
    assert (rows[0]["prompt"], rows[0]["completion"]) == ("1+2=", "3.<eos>")
    assert all(row["completion"].endswith("<eos>") for row in rows)
    assert len(rows) == 5


def test_tokens_are_those_that_were_generated_and_the_prompt_has_no_loss(run, tmp_path):
    exported(tmp_path / "out", run, format="tokens")
    first, *others = rows_of(tmp_path / "out")
    prompt = list(tokens("1+2=", "length"))
    assert first["input_ids"] == [*prompt, *tokens("3.")]
    assert first["labels"] == [-100] * 4 + [*tokens("3.")]
    assert all(row["labels"][-1] == STOP for row in others)


def test_kto_labels_graded_responses(run, tmp_path):
    facts = exported(tmp_path / "out", run, format="kto").facts
    found = [(row["prompt_id"], row["sample"], row["label"]) for row in rows_of(tmp_path / "out")]
    assert found == [("a", 0, True), ("a", 1, False), ("b", 0, False), ("c", 0, True)]
    assert facts["dropped"] == {"cut by length": 1, "not graded": 1}


def test_a_prompt_of_rl_has_its_answer_and_the_share_of_right_responses(run, tmp_path):
    exported(tmp_path / "out", run, format="rl")
    rows = rows_of(tmp_path / "out")
    found = [(r["prompt_id"], r["answer"], r["pass_rate"], r["samples"]) for r in rows]
    # A response that was cut counts as a wrong one; one that was not graded does not count.
    assert found == [("a", "3", 0.5, 2), ("b", "9", 0.0, 2), ("c", "8", 1.0, 2)]


def test_a_group_has_all_responses_to_a_prompt_with_rewards(run, tmp_path):
    exported(tmp_path / "out", run, format="groups")
    first, second, _ = rows_of(tmp_path / "out")
    assert first["completions"] == [ANSWER, [{"role": "assistant", "content": "5."}]]
    assert first["completion_ids"] == [[*tokens("3.")], [*tokens("5.")]]
    assert (first["rewards"], first["correct"], first["samples"]) == (
        [2.0, 0.5],
        [True, False],
        [0, 1],
    )
    assert second["finish_reasons"] == ["stop", "length"]


def test_rewards_pair_right_and_wrong_responses_first_ones_too(run, tmp_path):
    facts = exported(tmp_path / "out", run, format="reward").facts
    (row,) = rows_of(tmp_path / "out")
    # Right: 3. Wrong: the first response 4, and 5; each response is in one pair.
    assert (row["chosen"], row["rejected"]) == (ANSWER, [{"role": "assistant", "content": "4."}])
    assert row["reward_margin"] == 1.0
    assert facts["dropped"] == {"cut by length": 1, "no pair of a right and a wrong response": 3}
    assert [r["prompt_id"] for r in rows_of(tmp_path / "out", config="metadata")] == ["a", "a"]


def chain(*, kept: str = "all") -> dict:
    """Two accepted revisions, 4 -> 5 -> 3, with a rejected one between them."""
    made = [
        revision("4.", "5.", (1.0, 1.5)),
        revision("5.", "9.", (1.5, 0.5)),
        revision("5.", "3.", (1.5, 2.0)),
    ]
    row = trace("a", "3.", "4.", reward=2.0, base_reward=1.0, revisions=made)
    for each in row["revisions"]:
        if kept == "none" or (kept == "accepted" and not each["accepted"]):
            each["tail_token_ids"] = None
    return row


def pairs(out) -> list[tuple[str, str, str, float]]:
    return [
        (r["pair"], r["chosen"][0]["content"], r["rejected"][0]["content"], r["reward_margin"])
        for r in rows_of(out)
    ]


@pytest.mark.parametrize("kept", ["all", "accepted"])
def test_preferences_are_accepted_revisions_and_the_last_against_the_first(tmp_path, kept):
    run = write_run(tmp_path / "run", [chain(kept=kept), trace("b", "8.", question="6+2=")])
    facts = exported(tmp_path / "both", run, format="preference").facts
    revisions = [("revision", "5.", "4.", 0.5), ("revision", "3.", "5.", 0.5)]
    assert pairs(tmp_path / "both") == [*revisions, ("final", "3.", "4.", 1.0)]
    assert facts["dropped"] == {"no gain over the first response": 1}
    exported(tmp_path / "revision", run, format="preference", pairs="revision")
    assert pairs(tmp_path / "revision") == revisions
    exported(tmp_path / "final", run, format="preference", pairs="final")
    assert pairs(tmp_path / "final") == [("final", "3.", "4.", 1.0)]


def test_one_accepted_revision_is_one_pair(run, tmp_path):
    exported(tmp_path / "out", run, format="preference")
    assert pairs(tmp_path / "out") == [("final", "3.", "4.", 1.0)]


def test_pairs_of_revisions_need_their_tokens(tmp_path):
    run = write_run(
        tmp_path / "run", [chain(kept="none")], config={"store": {"candidates": "none"}}
    )
    with pytest.raises(InputError, match=r"store\.candidates=none: export pairs=final"):
        exported(tmp_path / "out", run, format="preference", pairs="revision")
    exported(tmp_path / "out", run, format="preference")
    assert pairs(tmp_path / "out") == [("final", "3.", "4.", 1.0)]


def test_no_pair_has_equal_rewards_or_a_response_without_an_end(tmp_path):
    cut = trace("c", "8.", "44", question="6+2=", reward=2.0, base_reward=1.0)
    cut["base_token_ids"] = list(tokens("44", "length"))
    rows = [trace("a", "3.", "4.", reward=1.0, base_reward=1.0), cut, trace("d", question="7+2=")]
    run = write_run(tmp_path / "run", rows)
    with pytest.raises(InputError, match="nothing is left of 3 traces") as error:
        exported(tmp_path / "out", run, format="preference")
    assert "1 no gain over the first response" in str(error.value)
    assert "2 no pair with a margin whose responses end in a stop token" in str(error.value)


def test_metadata_has_every_column_of_the_traces_row_by_row(run, tmp_path):
    exported(tmp_path / "out", run)
    rows, traces = rows_of(tmp_path / "out"), rows_of(tmp_path / "out", config="metadata")
    keys = [(row["prompt_id"], row["sample"]) for row in rows]
    assert [(row["prompt_id"], row["sample"]) for row in traces] == keys
    assert (traces[0]["run"], traces[0]["reward"], traces[0]["base_response"]) == ("run", 2.0, "4.")
    assert traces[0]["revisions"][0]["tail_token_ids"] == [*tokens("3.")]
