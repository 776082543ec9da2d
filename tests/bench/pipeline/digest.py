"""How fast the digest of a model is computed, and what the cache saves.

    python -m tests.bench.pipeline.digest [GB]

A folder with one file of random bytes, 2 GB if not said otherwise, which is in the page cache after
it was written. `cold` reads and hashes it with one and two threads, `cached` finds its digest in
the cache. Best of three. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from nabla_core.models import digest
from tests.bench.arguments import show_help

REPEATS = 3


def main() -> None:
    show_help(__doc__)
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    # A file that was written a moment ago would not be kept.
    digest.SETTLED_SECONDS = 0.0
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        folder = Path(name, "model")
        folder.mkdir()
        size = write(folder / "model.safetensors", int(gigabytes * 1e9))
        found = [(f"cold, {threads} thread(s)", cold(folder, threads)) for threads in (1, 2)]
        found.append(("cached", best(folder, 1)))
    print(f"a file of {size / 1e9:.2f} GB on {os.cpu_count()} CPUs")
    print(f"{'':20}{'seconds':>10}{'GB/s':>10}")
    for way, seconds in found:
        print(f"{way:20}{seconds:10.4f}{size / 1e9 / seconds:10.2f}")
    print(json.dumps({"bytes": size, "seconds": dict(found)}))


def write(file: Path, size: int) -> int:
    """Fill a file with random bytes; returns how many."""
    with file.open("wb") as stream:
        for start in range(0, size, digest.CHUNK):
            stream.write(os.urandom(min(digest.CHUNK, size - start)))
    return file.stat().st_size


def cold(folder: Path, threads: int) -> float:
    """Seconds without the cache, the best of some repeats."""
    return min(_without_cache(folder, threads) for _ in range(REPEATS))


def best(folder: Path, threads: int) -> float:
    """Seconds with the cache as it is, the best of some repeats."""
    return min(_timed(folder, threads) for _ in range(REPEATS))


def _without_cache(folder: Path, threads: int) -> float:
    cache = digest.cache_file()
    assert cache is not None
    cache.unlink(missing_ok=True)
    return _timed(folder, threads)


def _timed(folder: Path, threads: int) -> float:
    started = time.perf_counter()
    digest.folder_digest(folder, threads=threads)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
