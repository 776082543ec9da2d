"""The memory that a process of a run takes: weights, keys and values, activations.

An estimate: every response is `max_tokens` long and every batch full. What torch and a GPU's driver
take for themselves, and what their allocators waste, is not in it. What a model takes is in
`nabla_core.models.memory`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nabla_core.config import Decoding
from nabla_core.model_config import Runtime

if TYPE_CHECKING:
    from nabla_core.models.memory import Sizes
    from nabla_core.models.outline import Outline
    from pipeline.preview.models import Models

# Of the logits [rows, V] of a decoding step, in float32: themselves and what a token is drawn from.
LOGITS = 6
# Methods that keep keys and values of finished responses.
KEEPING = ("nabla", "mh", "ggro", "beam", "mcts")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes. `decoding`: keys and values of the batch that is decoded, `rows` responses; `kept`:
    those of finished responses that searches go on from; `activations`: of the largest pass."""

    weights: float
    decoding: float
    kept: float
    activations: float
    rows: int

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.decoding + self.kept + self.activations


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How large batches become: `rows` responses are decoded at a time, and passes over whole
    responses read so many `tokens`."""

    rows: int
    tokens: int


def batches(decoding: Decoding, runtime: Runtime, in_flight: int, prompt: float) -> Batches:
    """The batches of a process; `prompt` is the length of a prompt in tokens."""
    length = round(prompt) + decoding.max_tokens
    fit = max(1, min(runtime.max_batch, runtime.max_batch_tokens // length))
    rows = min(fit, in_flight * _at_once(decoding))
    return Batches(rows=rows, tokens=min(fit, in_flight) * length)


def memory(
    decoding: Decoding,
    models: Models,
    runtime: Runtime,
    *,
    in_flight: int,
    prompt: float,
    itemsize: int,
) -> Memory:
    """What a process takes with `in_flight` prompts at a time, in a type of `itemsize` bytes."""
    from nabla_core.models.memory import grown  # noqa: PLC0415 - see pipeline.preview.models

    found = batches(decoding, runtime, in_flight, prompt)
    length = decoding.max_tokens
    columns = grown(found.rows, round(prompt), length)
    decoding_models = _decoders(decoding, models)
    return Memory(
        weights=float(models.parameters * itemsize),
        decoding=sum(sizes.cached(columns, itemsize) for sizes in decoding_models),
        kept=_kept(decoding, models, runtime, in_flight * (prompt + length), itemsize),
        activations=max(
            *(_step(sizes, found.rows, itemsize) for sizes in decoding_models),
            *(sizes.reading(found.rows * prompt, itemsize) for sizes in decoding_models),
            *_passes(decoding, models, runtime, found.tokens, itemsize),
        ),
        rows=found.rows,
    )


def _at_once(decoding: Decoding) -> int:
    """Responses to a prompt that are drawn at a time."""
    match decoding.method:
        case "best_of_n":
            return decoding.best_of_n.n
        case "majority":
            return decoding.majority.n
        case "beam":
            return decoding.beam.width * decoding.beam.expand
        case "nabla":
            return decoding.nabla.speculate
    return 1


def decoders(decoding: Decoding, models: Models) -> list[Outline]:
    """The models that read each token as it is drawn."""
    guided = decoding.rollout.beta is not None and models.value_head is None
    return [models.lm, models.guide] if guided and models.guide is not None else [models.lm]


def _sweeps(decoding: Decoding) -> bool:
    """Whether finished responses are read by the guide."""
    return decoding.method == "ggro" or (decoding.method == "nabla" and decoding.nabla.uses_guide)


def _decoders(decoding: Decoding, models: Models) -> list[Sizes]:
    return [model.sizes for model in decoders(decoding, models)]


def _step(sizes: Sizes, rows: int, itemsize: int) -> float:
    return sizes.reading(rows, itemsize) + 4.0 * LOGITS * rows * sizes.outputs


def _kept(
    decoding: Decoding, models: Models, runtime: Runtime, tokens: float, itemsize: int
) -> float:
    """Keys and values of the responses of all prompts in flight, and of those that are proposed."""
    if not runtime.reuse or decoding.method not in KEEPING:
        return 0.0
    # The response that a search goes on from, and those that are tried. Of `ggro` the base
    # response, the best of a segment and the last candidate, each with what its gradient kept.
    nudged = decoding.method == "ggro"
    kept = models.lm.sizes.cached(tokens, itemsize) * (3 if nudged else 1 + _at_once(decoding))
    reads_text = _sweeps(decoding)
    own = models.value_head is None and not runtime.gradient_checkpointing
    if reads_text and own and models.guide is not None:
        kept += models.guide.sizes.cached(tokens, itemsize) * (3 if nudged else 1)
    if models.judge is not None and not (reads_text and models.guide is models.judge):
        kept += models.judge.sizes.cached(tokens, itemsize)
    return kept


def _passes(
    decoding: Decoding, models: Models, runtime: Runtime, tokens: int, itemsize: int
) -> list[float]:
    """Activations of the passes over whole responses."""
    lm, guide = models.lm.sizes, models.guide.sizes if models.guide is not None else None
    found = []
    if models.judge is not None and decoding.method != "majority":
        found.append(models.judge.sizes.reading(tokens, itemsize))
    if decoding.method not in ("nabla", "ggro"):
        return found
    guided, checkpoint = _sweeps(decoding), runtime.gradient_checkpointing
    if guided and models.kind == "gradient" and guide is not None:
        found.append(guide.sweeping(tokens, itemsize, checkpoint=checkpoint))
        if decoding.method == "nabla" and decoding.nabla.objective.nll_coeff:
            swept = lm.sweeping(tokens, itemsize, checkpoint=checkpoint)
            return [*found, swept + lm.scoring(tokens)]
    elif guided and models.value_head is None and guide is not None:
        found.append(guide.reading(tokens, itemsize))
    return [*found, lm.reading(tokens, itemsize) + lm.scoring(tokens)]
