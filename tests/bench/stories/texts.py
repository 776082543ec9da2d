"""Responses to stories, whether their steps are right, and batches of padded token ids."""

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
class StoryResponse:
    """A story and the words of a response to it. A response that ended has the stop token last."""

    story: Story
    words: tuple[str, ...]

    @classmethod
    def of(cls, story: Story, counts: Sequence[int]) -> StoryResponse:
        """The whole response with these counts."""
        return cls(story, (*story.response(list(counts)).split(), STOP))

    @property
    def sound(self) -> list[bool]:
        """For each day, whether it is right given the day before it. The last day needs its stop
        token."""
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
    """Right-padded token ids. `ids [B, L]`: prompt and response; `labels [B, L]`: the right token
    at each place, -100 outside responses; `starts [B]`: the first place of each response;
    `last [B]`: its last place."""

    ids: Tensor
    labels: Tensor
    starts: Tensor
    last: Tensor

    @classmethod
    def of(
        cls,
        responses: Sequence[StoryResponse],
        wanted: Sequence[Sequence[str | None]] | None = None,
    ) -> Batch:
        """`wanted` gives labels in place of the words of each response; None: no label there."""
        wanted = wanted or [r.words for r in responses]
        prompts = [encode(r.story.text) for r in responses]
        rows = [[*prompt, *_ids(r.words)] for prompt, r in zip(prompts, responses, strict=True)]
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


def scrambled(
    story: Story, rate: float, rng: random.Random
) -> tuple[StoryResponse, list[str | None]]:
    """A right response in which a share `rate` of the counts is replaced by random ones, and the
    right word of each place: the count that follows from the one before, None if there is none."""
    counts = [rng.randint(0, task.LARGEST) if rng.random() < rate else c for c in story.counts]
    response = StoryResponse.of(story, counts)
    wanted: list[str | None] = list(response.words)
    for index, (before, change) in enumerate(
        zip([story.start, *counts], story.changes, strict=False)
    ):
        possible = task.possible(before, *change)
        wanted[WORDS * index + 2] = str(task.changed(before, *change)) if possible else None
    return response, wanted


def corrupted(response: StoryResponse, rng: random.Random) -> StoryResponse:
    """The response with a wrong count on one day. The later days are not adjusted to it."""
    words, place = list(response.words), WORDS * rng.randrange(STEPS) + 2
    others = [n for n in range(task.LARGEST + 1) if str(n) != words[place]]
    words[place] = str(rng.choice(others))
    return StoryResponse(response.story, tuple(words))


def cut_off(response: StoryResponse, rng: random.Random) -> StoryResponse:
    """The response cut at a random length, without a stop token."""
    return StoryResponse(response.story, response.words[: rng.randrange(1, WORDS * STEPS)])
