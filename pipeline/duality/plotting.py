"""What all plots share: a backend that needs no display, and the colours."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

COLOURS = ("#0b6e99", "#c44e31", "#4a8f3c", "#8a5fb0", "#b58900", "#444444", "#d16ba5")
