"""What is set aside in a run folder, and what the user is told of it.

Files that cannot be used are moved to `quarantine/` with the reason; rows of edited or removed
prompts are copied to `superseded/`.
"""

from __future__ import annotations

from collections import Counter

from pipeline.store.files import Folder
from pipeline.store.slots import Slots

QUARANTINE, SUPERSEDED = "quarantine", "superseded"


class Quarantine:
    """Moves files of a folder to quarantine/ and remembers how many, by reason."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()

    def move(self, folder: Folder, name: str, reason: str) -> None:
        """Move a file; its neighbour `NAME.reason.txt` gets the reason. A file that is missing by
        now is counted and nothing more."""
        self._reasons[reason] += 1
        base = name.replace("/", "-")
        if not folder.exists(name):
            return
        # The reason first: after a crash in between, the next driver moves the file.
        folder.write(f"{QUARANTINE}/{base}.reason.txt", f"{reason}\n".encode())
        folder.move(name, f"{QUARANTINE}/{base}")

    def report(self) -> str | None:
        """How many files were moved since the last report, and why; None if none were."""
        if not self._reasons:
            return None
        reasons = "; ".join(f"{n} {reason}" for reason, n in self._reasons.most_common(3))
        more = len(self._reasons) - 3
        others = f"; {more} other reasons" if more > 0 else ""
        files = _counted(self._reasons.total(), "file")
        self._reasons.clear()
        return f"{files} moved to {QUARANTINE}/: {reasons}{others}"


def superseded_report(slots: Slots, rows: int, files: int) -> str:
    """How many rows were copied to superseded/, in how many files, and why."""
    reasons = (
        (slots.changed.count, "of edited prompts"),
        (slots.removed.count, "of prompts or samples that are not in the input any more"),
    )
    why = "; ".join(f"{count} {reason}" for count, reason in reasons if count)
    in_files = "1 file" if files == 1 else f"{files} files"
    return f"{_counted(rows, 'row')} copied to {SUPERSEDED}/ in {in_files}: {why}"


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} was" if count == 1 else f"{count} {noun}s were"
