"""Pieces of the stage: independent computations, run in parallel and cached in the run folder."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from typing import Any

from pipeline.store.files import Folder, checksum_of

# Of the cached pieces. Raise it whenever the meaning of a piece, or of a class in it, changes:
# pieces of another version are never read.
VERSION = 4


@dataclass(frozen=True)
class Piece:
    """One computation. `compute` and its result are picklable; `inputs` (its `repr`) is all
    that the result depends on."""

    name: str
    inputs: Any
    compute: Callable[[], Any]


@dataclass(frozen=True)
class PieceCache:
    """Results of pieces in the run folder.

    A repeated command reuses them, and parts that are run one by one add up to one report.
    A piece whose inputs have changed is computed again, and so is one whose file is damaged: it
    begins with the checksum of the rest. `on_done(reused)` is called with each piece.
    """

    folder: Folder
    processes: int
    log: Callable[[str], None]
    on_done: Callable[[bool], None] = lambda reused: None

    def compute_all(self, pieces: Sequence[Piece]) -> list[Any]:
        """The results in the order of the pieces; missing ones are computed now."""
        results = {}
        missing = []
        for piece in pieces:
            cached = self._read(piece)
            if cached is None:
                missing.append(piece)
            else:
                results[piece.name], seconds = cached
                self.log(f"  {piece.name}: reused from an earlier run ({seconds:.0f} s)")
                self.on_done(True)
        for piece, result, seconds in _compute(missing, self.processes):
            data = pickle.dumps((repr(piece.inputs), result, seconds))
            self.folder.write(_file(piece), f"{checksum_of(data)}\n".encode() + data)
            self.log(f"  {piece.name}: {seconds:.0f} s of CPU")
            results[piece.name] = result
            self.on_done(False)
        return [results[piece.name] for piece in pieces]

    def _read(self, piece: Piece) -> tuple[Any, float] | None:
        if not self.folder.exists(_file(piece)):
            return None
        checksum, _, data = self.folder.read(_file(piece)).partition(b"\n")
        if checksum != checksum_of(data).encode():
            self.log(f"  {piece.name}: {_file(piece)} is damaged, computed again")
            return None
        inputs, result, seconds = pickle.loads(data)
        return (result, seconds) if inputs == repr(piece.inputs) else None


def _file(piece: Piece) -> str:
    # The version stands in the path: an old pickle may name classes that no longer exist.
    return f"pieces/v{VERSION}/{piece.name}.pickle"


def _compute(pieces: Sequence[Piece], processes: int) -> Iterator[tuple[Piece, Any, float]]:
    """Pieces with their results and seconds of CPU, in the order in which they finish."""
    count = min(processes, len(pieces))
    if count <= 1:
        for piece in pieces:
            yield piece, *_timed(piece.compute, None)
        return
    # Without this limit every process starts a thread for each core, and they slow each other.
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    # "spawn": a fork of a process whose torch has started threads can hang.
    context = get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_leave_signals_to_the_parent)
    try:
        pending = {pool.submit(_timed, piece.compute, threads): piece for piece in pieces}
        for future in as_completed(pending):
            yield pending[future], *future.result()
    except BaseException:
        # The pool would wait for running pieces, which can take minutes.
        for child in active_children():
            child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_signals_to_the_parent() -> None:
    # Ctrl-C and SIGTERM may go to the whole process group. Each process would end with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _timed(compute: Callable[[], Any], threads: int | None) -> tuple[Any, float]:
    # Imported here: a new process reads this module first, and tests run pieces without torch.
    import torch  # noqa: PLC0415
    from transformers.utils import logging  # noqa: PLC0415

    if threads is not None:
        torch.set_num_threads(threads)
    logging.disable_progress_bar()
    started = time.process_time()
    return compute(), time.process_time() - started
