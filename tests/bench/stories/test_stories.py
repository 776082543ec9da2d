"""Stories can be parsed, graded and tokenised like the prompts of any user."""

import random

import pytest
from transformers import AutoTokenizer

from tests.bench.stories import models, task, texts, train_judge, train_lm
from tests.bench.stories.task import STEPS, WORDS
from tests.bench.stories.texts import IGNORED, Batch, StoryResponse


@pytest.fixture(scope="module")
def some() -> list[task.Story]:
    return task.stories(200, random.Random(0), "train")


def test_a_story_is_read_from_its_prompt(some):
    assert [task.read(story.text) for story in some] == some
    assert {operation for story in some for operation, _ in story.changes} == set(task.TEMPLATES)
    assert all(0 <= count <= task.LARGEST for story in some for count in story.counts)
    with pytest.raises(ValueError, match="no story of 6 days"):
        task.read(some[0].text.replace("Monday", "Sunday"))


def test_right_responses_are_right_and_others_are_not(some):
    for story in some:
        right = story.response(story.counts)
        marks = task.grade(story.text, right)
        assert (marks.answer, marks.trace) == (True, True)
        assert marks.predicted == str(story.counts[-1])
        words = right.split()
        assert task.sound_steps(story, words) == [True] * STEPS
        other = [*words[:2], str(story.counts[0] + 1), *words[3:]]
        assert task.sound_steps(story, other)[0] is False
        assert task.grade(story.text, " ".join(other)).trace is False
        assert task.grade(story.text, " ".join(words[:-1])).answer is False


def test_a_wrong_count_that_is_gone_on_from_is_one_error(some):
    story = next(s for s in some if s.changes[1][0] == "take" and s.counts[0] < task.LARGEST)
    words = story.response(story.counts).split()
    words[2] = str(story.counts[0] + 1)
    words[WORDS + 2] = str(story.counts[1] + 1)
    assert task.sound_steps(story, words)[:2] == [False, True]


def test_splits_are_disjoint_and_prompts_go_on(some):
    long, short = (task.prompts(n, seed=0, split="test") for n in (40, 20))
    assert long[:20] == short
    trained = {story.text for story in some}
    assert not trained & {prompt.text for prompt in long}
    with pytest.raises(ValueError, match="none of train"):
        task.prompts(1, seed=0, split="dev")


def test_a_word_is_a_token_wherever_the_tokenizer_is_loaded(some, tmp_path):
    models.new_foundation().save_pretrained(tmp_path)
    models.tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for story in some[:20]:
        text = f"{story.text} {story.response(story.counts)}"
        ids = loaded(text)["input_ids"]
        assert ids == models.encode(text)
        assert loaded.decode(ids) == text


def test_labels_are_what_should_stand_at_each_place(some):
    rng = random.Random(1)
    pairs = [texts.scrambled(story, 0.5, rng) for story in some[:50]]
    batch = Batch.of([response for response, _ in pairs], [wanted for _, wanted in pairs])
    rows = zip(batch.ids, batch.labels, batch.counts, pairs, strict=True)
    for ids, labels, places, (response, _) in rows:
        asked = labels[places]
        agree = [bool(a == b) for a, b in zip(asked, ids[places], strict=True)]
        assert agree == response.sound
        outside = labels[: int(places[0]) - 2]
        assert outside.eq(IGNORED).all()
    assert any(not all(response.sound) for response, _ in pairs)


def test_what_is_sound_ends_at_the_first_error_and_where_it_breaks_off(some):
    rng = random.Random(2)
    for story in some[:50]:
        whole = StoryResponse.of(story, story.counts)
        assert whole.sound_fraction == 1.0
        changed = texts.corrupted(whole, rng)
        place = next(i for i, w in enumerate(changed.words) if w != whole.words[i])
        assert changed.sound_fraction == place // WORDS / STEPS
        short = texts.cut_off(whole, rng)
        assert short.sound_fraction == len(short.words) // WORDS / STEPS


def test_the_recipe_runs(monkeypatch):
    monkeypatch.setattr(train_lm, "LESSONS", {1: 2, STEPS: 2})
    monkeypatch.setattr(train_lm, "LM_STEPS", 2)
    monkeypatch.setattr(train_lm, "MEASURED", 8)
    monkeypatch.setattr(train_judge, "JUDGE_STEPS", 2)
    monkeypatch.setattr(train_judge, "SAMPLES", 64)
    monkeypatch.setattr(train_judge, "HELD_OUT", 8)
    lines: list[str] = []
    converged, card = train_lm.train_converged(0, lines.append)
    assert card["steps"] == 4
    assert 0 <= card["greedy trace"] <= card["greedy accuracy"] <= 1
    lm, _ = train_lm.train_flawed(converged, 0, lines.append)
    judge, card = train_judge.train_judge(converged, lm, 0, lines.append)
    assert card["steps"] == 2
    frozen = judge.model.layers[0].mlp.up_proj.weight
    assert frozen.equal(converged.model.layers[0].mlp.up_proj.weight)
    assert not lm.lm_head.weight.equal(converged.lm_head.weight)
    assert judge.model.layers[-1].mlp.down_proj.weight.any()
    assert len(lines) == 3
