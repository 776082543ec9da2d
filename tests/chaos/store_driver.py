"""Both sides of the store in one process without Ray: a worker commits, a driver compacts.

    python -m tests.chaos.store_driver [--another-machine]

Reads commands from standard input, one JSON object a line, runs each in a forked child, and
prints the child's process id and then its return code: 2 for a LeaseError, 1 for any other. What
takes a second, to import the store, happens only once. With `--another-machine` no process id in a
lease is of this machine, as for a driver in another process namespace.
"""

import json
import os
import sys
import traceback
from typing import Any

from pipeline.errors import LeaseError
from pipeline.store import claims
from pipeline.store.checks.version import claim_version
from pipeline.store.files import Folder
from pipeline.store.lease import Lease
from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.store.slots import MISSING
from tests.pipeline.rows import SCHEMA, inputs, item, row

# Another machine takes over after so many seconds of silence.
TTL = 0.3


def drive(folder: str, rows: int) -> None:
    """What a driver does with the store, under its lease. Prompt p4 becomes a dead letter."""
    lease = Lease(Folder(folder), TTL, lambda: None)
    try:
        with lease.guarding():
            _drive(lease, rows)
    finally:
        lease.release()


def _drive(lease: Lease, rows: int) -> None:
    store = RunStore(lease.folder.uri, SCHEMA, Store(rows_per_file=2, threads=1))
    store.hold(lease)
    names = [f"p{n}" for n in range(rows)]
    wanted = inputs(names)
    claim_version(store.folder)
    store.delete_temporary()
    slots = store.scan(wanted, 1)
    store.write_expected(len(slots))
    if store.is_complete() and slots.count(MISSING):
        store.reopen()
        slots = store.scan(wanted, 1)
    if store.is_complete():
        store.delete_parts()
        return
    for slot in slots.in_state(MISSING):
        name = names[slot]
        store.commit([row(item(name), error="E: dead" if name == "p4" else None)])
    store.rescan(slots)
    checksums = store.compact(slots)
    store.mark_complete({"rows": rows, "checksums": checksums})


def _in_child(command: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ.update(command["environment"])
            drive(command["folder"], command["rows"])
            code = 0
        except LeaseError:
            code = 2
        except BaseException:  # noqa: BLE001 - the child must not return into the parent's loop
            traceback.print_exc()
        finally:
            os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    if "--another-machine" in sys.argv:
        claims.machine = lambda: "another"
    for line in sys.stdin:
        print(_in_child(json.loads(line)), flush=True)
