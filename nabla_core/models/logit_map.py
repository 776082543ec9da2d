"""What some language models do to the outputs of their output layer: a scale and a soft cap.

Cohere and Granite scale their logits, Gemma 2 and 3 cap them at `c tanh(z / c)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LogitMap:
    """From the outputs of the output layer to logits: `cap tanh(scale x / cap)`, without a cap
    `scale x`."""

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: Any, outputs: Tensor, logits: Tensor) -> LogitMap:
        """The map that a config names. Some models divide by the scale that others multiply by,
        and some do not use the cap that they name: what is nearest to their `logits` of these
        `outputs` is taken."""
        text = config.get_text_config()
        caps = [getattr(text, "final_logit_softcapping", None), None]
        scales = {1.0}
        for name in ("logit_scale", "logits_scaling", "lm_head_multiplier"):
            if value := getattr(text, name, None):
                scales |= {float(value), 1 / float(value)}
        maps = [cls(scale, cap) for scale in sorted(scales) for cap in caps]
        return min(maps, key=lambda m: float((m(outputs.float()) - logits.float()).abs().max()))

    def __call__(self, outputs: Tensor) -> Tensor:
        """fp32 logits of fp32 outputs, of the same shape."""
        logits = outputs if self.scale == 1.0 else outputs * self.scale
        if self.cap is None:
            return logits
        # An infinite output is an error to be found, and not the cap.
        return ((logits / self.cap).tanh() * self.cap).where(logits.isfinite(), logits)

    def slope(self, logits: Tensor) -> Tensor | float:
        """The derivative of each logit with respect to its output; 0 at masked (-inf) logits where
        there is a cap."""
        if self.cap is None:
            return self.scale
        return self.scale * (1 - (logits / self.cap).square()).clamp(min=0)
