"""Beam search over steps with the judge's reward as the score.

1. Draw `width * expand` first steps of the response.
2. Complete each greedily and let the judge score it; keep the `width` best.
3. Draw `expand` next steps of each that is kept, and go on with 2. Responses that have ended stay
   among those that are compared.

This is the beam search of Snell et al. (arXiv 2408.03314) with a judge of whole responses in place
of a process reward model. Equal steps are kept once.
"""

from __future__ import annotations

from collections.abc import Iterable

from nabla_core.config import Beam
from nabla_core.methods.steps import Partial, StepSearch, step_search
from nabla_core.requests import Decode, Flow, Response, ask
from nabla_core.types import Prompt, Trace


def beam(prompt: Prompt, config: Beam, *, seed: int = 0, max_tokens: int = 1024) -> Flow:
    """The best response of the last beam, or of all (`Beam.answer`). The base response is the first
    whole one that the judge read. By the paper's count a sampled token and a reward are a call
    each. Random draws are keyed, as in `nabla`."""
    search = yield from step_search(
        prompt, config.steps, config.judged, config.rollout, seed, max_tokens
    )
    beams = [search.root()]
    step = 0
    while not all(partial.ended for partial in beams):
        # The prompt alone gets as many continuations as all beams together get later.
        expand = config.expand if step else config.expand * config.width
        drawn = yield from search.extend(
            [
                (partial, f"step {step} of {rank} draw {n}")
                for rank, partial in enumerate(beams)
                if not partial.ended
                for n in range(expand)
            ]
        )
        found = distinct([*(partial for partial in beams if partial.ended), *drawn])
        yield from search.judge(found)
        # The order of equal values is that of the draws.
        beams = sorted(found, key=lambda partial: -partial.value)[: config.width]
        step += 1
    best = search.best if config.answer == "best" else beams[0]
    assert best is not None
    return (yield from trace_of_steps(search, best))


def distinct(partials: Iterable[Partial]) -> list[Partial]:
    """The first of equal responses."""
    found: dict[tuple[int, ...], Partial] = {}
    for partial in partials:
        found.setdefault(partial.tokens, partial)
    return list(found.values())


def trace_of_steps(search: StepSearch, best: Partial) -> Flow:
    """The trace of a search without revisions."""
    base = search.first or best
    response, first = whole_of(best), whole_of(base)
    text, base_text = yield from ask(Decode((response.tokens, first.tokens)))
    return Trace(
        prompt_id=search.prompt.id,
        sample=search.prompt.sample,
        prompt_text=search.context.text,
        text=text,
        tokens=response.tokens,
        finish_reason=response.finish,
        base_text=base_text,
        base_tokens=first.tokens,
        base_reward=base.judged.reward if base.judged else None,
        reward=best.judged.reward if best.judged else None,
        revisions=(),
        seed=search.seed,
    )


def whole_of(partial: Partial) -> Response:
    assert partial.whole is not None
    return partial.whole
