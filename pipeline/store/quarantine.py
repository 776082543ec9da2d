"""Files of a run folder that cannot be used, moved to `quarantine/` with the reason."""

from __future__ import annotations

from collections import Counter

from pipeline.store.files import Folder

QUARANTINE = "quarantine"


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
        count = self._reasons.total()
        reasons = "; ".join(f"{n} {reason}" for reason, n in self._reasons.most_common(3))
        more = len(self._reasons) - 3
        others = f"; {more} other reasons" if more > 0 else ""
        self._reasons.clear()
        files = "1 file was" if count == 1 else f"{count} files were"
        return f"{files} moved to {QUARANTINE}/: {reasons}{others}"
