"""Pieces of the stage: independent of each other, made side by side, kept as they finish."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from typing import Any

from pipeline.store.files import Folder

# Of the pieces in a run folder: raise it where their meaning changes.
VERSION = 2


@dataclass(frozen=True)
class Piece:
    """`make` and what it returns are picklable; `shape` is all that its result depends on."""

    name: str
    shape: Any
    make: Callable[[], Any]


@dataclass(frozen=True)
class Kept:
    """Pieces in the run folder: the same command goes on from there, and parts run one by one
    add up to one report. A piece made with other settings is made anew."""

    folder: Folder
    processes: int
    say: Callable[[str], None]

    def all(self, pieces: Sequence[Piece]) -> list[Any]:
        """The pieces in order, those that are missing made now."""
        found = {}
        missing = []
        for piece in pieces:
            kept = self._read(piece)
            if kept is None:
                missing.append(piece)
            else:
                found[piece.name], seconds = kept
                self.say(f"  {piece.name}: kept from before ({seconds:.0f} s)")
        for piece, made, seconds in _each(missing, self.processes):
            self.folder.write(_file(piece), pickle.dumps((_mark(piece), made, seconds)))
            self.say(f"  {piece.name}: {seconds:.0f} s of CPU")
            found[piece.name] = made
        return [found[piece.name] for piece in pieces]

    def _read(self, piece: Piece) -> tuple[Any, float] | None:
        if not self.folder.exists(_file(piece)):
            return None
        mark, made, seconds = pickle.loads(self.folder.read(_file(piece)))
        return (made, seconds) if mark == _mark(piece) else None


def _file(piece: Piece) -> str:
    return f"pieces/{piece.name}.pickle"


def _mark(piece: Piece) -> str:
    return repr((piece.shape, VERSION))


def _each(pieces: Sequence[Piece], processes: int) -> Iterator[tuple[Piece, Any, float]]:
    """Pieces with their results and seconds of CPU, as they finish."""
    count = min(processes, len(pieces))
    if count <= 1:
        for piece in pieces:
            yield piece, *_made(piece.make, None)
        return
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    try:
        waiting = {pool.submit(_made, piece.make, threads): piece for piece in pieces}
        for done in as_completed(waiting):
            yield waiting[done], *done.result()
    except BaseException:
        # What is under way can take minutes; nobody waits for it.
        for child in active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _made(make: Callable[[], Any], threads: int | None) -> tuple[Any, float]:
    import torch  # noqa: PLC0415 - workers start faster without
    from transformers.utils import logging  # noqa: PLC0415

    if threads is not None:
        torch.set_num_threads(threads)
    logging.disable_progress_bar()
    started = time.process_time()
    return make(), time.process_time() - started
