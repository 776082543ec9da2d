"""Both sides of the store in one process without Ray: a worker commits, a driver compacts.

    python -m tests.chaos.store_driver

Reads commands from standard input, one JSON object a line, runs each in a forked child, and
prints the child's return code. What takes a second, to import the store, happens only once.
"""

import json
import os
import sys
import traceback
from typing import Any

from pipeline.store.run_store import RunStore
from pipeline.store.settings import Store
from pipeline.store.slots import MISSING
from pipeline.store.version import claim_version
from tests.pipeline.rows import SCHEMA, inputs, item, row


def drive(folder: str, rows: int) -> None:
    """What a run does with the store, from the scan to the marker. Prompt p4 becomes a dead
    letter."""
    store = RunStore(folder, SCHEMA, Store(rows_per_file=2, threads=1))
    names = [f"p{n}" for n in range(rows)]
    wanted = inputs(names)
    store.delete_temporary()
    slots = store.scan(wanted, 1)
    claim_version(store.folder)
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
    store.compact(slots)
    store.mark_complete()


def _in_child(command: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ.update(command["environment"])
            drive(command["folder"], command["rows"])
            code = 0
        except BaseException:  # noqa: BLE001 - the child must not return into the parent's loop
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    for line in sys.stdin:
        print(_in_child(json.loads(line)), flush=True)
