"""Batches of stories and responses as padded ids, and what is right in them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nabla_core.embedded.tokenizer import PAD_ID, STOP, STOP_ID
from tests.bench.stories import task
from tests.bench.stories.models import encode
from tests.bench.stories.task import STEPS, WORDS, Story

IGNORED = -100


@dataclass(frozen=True)
class Told:
    """A story and a response to it, as words, the stop token among them where it ends."""

    story: Story
    words: tuple[str, ...]

    @classmethod
    def of(cls, story: Story, counts: Sequence[int]) -> Told:
        """With these counts, whole."""
        return cls(story, (*story.response(list(counts)).split(), STOP))

    @property
    def sound(self) -> list[bool]:
        """Whether each day is told right, given the day before; the last with its stop token."""
        ended = self.words[-1:] == (STOP,)
        steps = task.sound_steps(self.story, list(self.words[:-1] if ended else self.words))
        return [*steps[:-1], steps[-1] and ended and len(self.words) == WORDS * STEPS]

    @property
    def sound_fraction(self) -> float:
        """The share of days before the first error."""
        sound = self.sound
        return (sound.index(False) if False in sound else STEPS) / STEPS


@dataclass(frozen=True)
class Batch:
    """`ids [B, L]` prompt and response, right-padded; `labels [B, L]` the token that should come
    at each place, -100 outside responses; `starts [B]` where responses start, `last [B]` the
    last real place."""

    ids: Tensor
    labels: Tensor
    starts: Tensor
    last: Tensor

    @classmethod
    def of(
        cls, told: Sequence[Told], wanted: Sequence[Sequence[str | None]] | None = None
    ) -> Batch:
        """`wanted` in place of the words of each response, None where nothing is."""
        wanted = wanted or [t.words for t in told]
        prompts = [encode(t.story.text) for t in told]
        rows = [[*prompt, *_ids(t.words)] for prompt, t in zip(prompts, told, strict=True)]
        labels = [
            [*[IGNORED] * len(prompt), *_ids(words)]
            for prompt, words in zip(prompts, wanted, strict=True)
        ]
        return cls(
            _padded(rows, PAD_ID),
            _padded(labels, IGNORED),
            torch.tensor([len(prompt) for prompt in prompts]),
            torch.tensor([len(row) - 1 for row in rows]),
        )

    @property
    def counts(self) -> Tensor:
        """Places `[B, 6]` of the counts of whole responses."""
        return self.starts[:, None] + 2 + WORDS * torch.arange(STEPS)


def _ids(words: Sequence[str | None]) -> list[int]:
    return [
        IGNORED if word is None else STOP_ID if word == STOP else encode(word)[0] for word in words
    ]


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])


def scrambled(story: Story, rate: float, rng: random.Random) -> tuple[Told, list[str | None]]:
    """A right response with counts replaced by random ones at `rate`, and what each place should
    hold: the count that follows from the one before, None where that is no count of a story."""
    counts = [rng.randint(0, task.LARGEST) if rng.random() < rate else c for c in story.counts]
    told = Told.of(story, counts)
    wanted: list[str | None] = list(told.words)
    for index, (before, change) in enumerate(
        zip([story.start, *counts], story.changes, strict=False)
    ):
        possible = task.possible(before, *change)
        wanted[WORDS * index + 2] = str(task.changed(before, *change)) if possible else None
    return told, wanted


def corrupted(told: Told, rng: random.Random) -> Told:
    """With another count on one day; the days after it go stale."""
    words, place = list(told.words), WORDS * rng.randrange(STEPS) + 2
    others = [n for n in range(task.LARGEST + 1) if str(n) != words[place]]
    words[place] = str(rng.choice(others))
    return Told(told.story, tuple(words))


def cut_off(told: Told, rng: random.Random) -> Told:
    """Broken off, without a stop token, at a random length."""
    return Told(told.story, told.words[: rng.randrange(1, WORDS * STEPS)])
