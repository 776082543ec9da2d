"""What processes listen on, from /proc: `ss -ltnp` without the program."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"


def listening(pids: Sequence[int]) -> list[tuple[str, int]]:
    """The TCP addresses and ports that these processes listen on."""
    sockets = {inode for pid in pids for inode in _sockets(pid)}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == LISTEN and columns[9] in sockets:
                address, port = columns[1].split(":")
                found.append((_address(address), int(port, 16)))
    return found


def _sockets(pid: int) -> list[str]:
    inodes = []
    with suppress(FileNotFoundError, PermissionError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    inodes.append(target[8:-1])
    return inodes


def _address(digits: str) -> str:
    """The kernel prints each 32 bits in the byte order of the machine."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    packed = b"".join(word.to_bytes(4, "little") for word in words)
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)
