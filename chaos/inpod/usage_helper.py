"""Runs in a pod on each node of a cluster without quick metrics: `python -m chaos.inpod.usage_helper --for SECONDS`.

Prints one JSON line each `--every` seconds: `{"at": ns, "containers": {ID: [CPU time in ns, bytes]}}`, of every
container of the node's pods. IDs are the first 12 digits; bytes are the working set, as the kubelet counts it. Needs
hostPID, and the cgroups mounted as a privileged container has them. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import posixpath
import re
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from chaos.inpod.cgroups import find_directory

DIGITS: Final = 12
_ID: Final = re.compile(r"(?:[a-z-]+-)?([0-9a-f]{12,})(?:\.scope)?")
_POD: Final = re.compile(r"pod[0-9a-f]{8}[-_]")
# by version of cgroups: the file of all memory, and the field of what can be reclaimed
_MEMORY: Final = {1: ("memory.usage_in_bytes", "total_inactive_file"), 2: ("memory.current", "inactive_file")}


def container_of(cgroups: str) -> str:
    """Return the first digits of the container that a process belongs to, from its /proc/PID/cgroup; "" for none.

    The last part of a path below `…pod<UID>…` is the ID, under systemd `RUNTIME-<ID>.scope`.
    """
    for line in cgroups.splitlines():
        above, last = posixpath.split(line.split(":", 2)[2])
        found = _ID.fullmatch(last)
        if found and _POD.search(posixpath.basename(above)):
            return found[1][:DIGITS]
    return ""


def containers(proc: Path = Path("/proc")) -> dict[str, str]:
    """Return of each container of the node the text of one process's cgroups."""
    found: dict[str, str] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cgroup").read_text()
            except OSError:
                continue  # it ended while we looked
            if one := container_of(text):
                found.setdefault(one, text)
    return found


@lru_cache(maxsize=4096)
def files(cgroups: str, proc: Path = Path("/proc")) -> tuple[Path, Path, int]:
    """Return the directories of a container's CPU and memory, and the version of cgroups. Raises LookupError."""
    cpu, version = find_directory(cgroups, "cpuacct", proc)
    memory, _ = find_directory(cgroups, "memory", proc)
    return cpu, memory, version


def used(cpu: Path, memory: Path, version: int) -> tuple[int, int]:
    """Return the CPU time (ns) that a container has used, and its working set (bytes). Raises OSError when it has
    ended.
    """
    if version == 1:
        time_used = int((cpu / "cpuacct.usage").read_text())
    else:
        time_used = _fields(cpu / "cpu.stat")["usage_usec"] * 1000
    total, idle = _MEMORY[version]
    held = int((memory / total).read_text()) - _fields(memory / "memory.stat")[idle]
    return time_used, max(0, held)


def _fields(path: Path) -> Mapping[str, int]:
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def look(proc: Path = Path("/proc")) -> dict[str, object]:
    """Return one line's facts."""
    found = {}
    at = time.time_ns()
    for one, cgroups in containers(proc).items():
        try:
            found[one] = used(*files(cgroups, proc))
        except (LookupError, OSError):
            continue
    return {"at": at, "containers": found}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chaos.inpod.usage_helper")
    parser.add_argument("--every", type=float, default=0.25, help="seconds between two lines")
    parser.add_argument("--for", dest="seconds", type=float, required=True, help="seconds after which it ends")
    options = parser.parse_args(arguments)
    begin = time.monotonic()
    due = begin
    while due < begin + options.seconds:
        print(json.dumps(look(), separators=(",", ":")), flush=True)
        due = max(due + options.every, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
