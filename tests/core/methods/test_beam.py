"""Beam search against a literal version."""

from __future__ import annotations

from itertools import count

import pytest

from nabla_core import Decoding, drive, flow
from nabla_core.config import Beam, Sampling, Steps
from nabla_core.draws import DrawKey
from tests.core.methods.toy import (
    SEPARATOR,
    STOP,
    Tokens,
    engines,
    generate,
    prompt,
    reward,
)

LIMIT = 9
STEPS = Steps(separator=str(SEPARATOR), tokens=3)
SAMPLED = Sampling(1.0)


def ended(tokens: Tokens) -> bool:
    return tokens[-1:] == (STOP,) or len(tokens) >= LIMIT


def judged_text(tokens: Tokens, config: Beam) -> Tokens:
    return generate(tokens, LIMIT) if config.judged == "greedy" else tokens


def literal(config: Beam, prompt_id: str) -> tuple[Tokens, list[Tokens]]:
    """The answer, and the texts that the judge has read in order."""
    until = None if config.steps.separator is None else SEPARATOR
    beams: list[Tokens] = [()]
    read: list[Tokens] = []
    for step in count():
        if all(map(ended, beams)):
            break
        draws = config.expand if step else config.width * config.expand
        found = [tokens for tokens in beams if ended(tokens)]
        for rank, tokens in enumerate(beams):
            if ended(tokens):
                continue
            for n in range(draws):
                key = DrawKey(3, prompt_id, 0, f"step {step} of {rank} draw {n}")
                end = min(LIMIT, len(tokens) + config.steps.tokens)
                found.append(generate(tokens, end, key, until=until))
        found = list(dict.fromkeys(found))
        read += [judged_text(tokens, config) for tokens in found]
        beams = sorted(found, key=lambda tokens: -reward(judged_text(tokens, config)))
        beams = beams[: config.width]
    return beams[0], read


CONFIGS = [
    Beam(width=2, expand=2, steps=STEPS, rollout=SAMPLED),
    Beam(width=3, expand=1, steps=Steps(tokens=2), rollout=SAMPLED),
    Beam(width=2, expand=3, steps=STEPS, judged="partial", rollout=SAMPLED),
    Beam(width=1, expand=1, steps=Steps(tokens=50), rollout=SAMPLED),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_answer_is_that_of_the_literal_search(config: Beam):
    decoding = Decoding(method="beam", max_tokens=LIMIT, beam=config)
    asked = [prompt(n) for n in range(20)]
    traces = {t.prompt_id: t for t in drive((flow(p, decoding, seed=3) for p in asked), engines())}
    for number in range(20):
        trace = traces[f"p{number}"]
        answer, read = literal(config, f"p{number}")
        assert trace.tokens == answer
        assert trace.reward == reward(answer)
        assert trace.finish_reason == ("stop" if answer[-1] == STOP else "length")
        whole = [text for text in read if ended(text)]
        assert (trace.base_tokens, trace.base_reward) == (whole[0], reward(whole[0]))
        # Each text is judged once, and a token is a call.
        assert trace.cost.paper_calls == trace.cost.generated_tokens + len(set(read))


def test_the_best_response_on_the_way_can_be_the_answer():
    better = 0
    for number in range(20):
        config = Beam(width=2, expand=2, steps=STEPS, rollout=SAMPLED, answer="best")
        decoding = Decoding(method="beam", max_tokens=LIMIT, beam=config)
        (trace,) = drive([flow(prompt(number), decoding, seed=3)], engines())
        answer, read = literal(config, f"p{number}")
        assert trace.tokens == max(read, key=reward)
        better += trace.tokens != answer
    assert better > 0


def test_a_completion_is_not_made_again_where_a_step_follows_it():
    """One greedy step after the other: the first completion is that of all of them."""
    config = Beam(width=1, expand=1, steps=Steps(tokens=1), rollout=Sampling(0))
    decoding = Decoding(method="beam", max_tokens=LIMIT, beam=config)
    (trace,) = drive([flow(prompt(0), decoding)], engines())
    assert trace.tokens == generate((), LIMIT)
    # A step each, and the rest of the first.
    assert trace.cost.generated_tokens == 2 * len(trace.tokens) - 1
    assert trace.cost.paper_calls == trace.cost.generated_tokens + 1
