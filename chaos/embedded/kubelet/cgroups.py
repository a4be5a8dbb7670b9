"""Control groups of nodes, pods and containers, in both versions: paths, limits, usage.

The names are a real node's below one directory per node, `/sharedfate/<cluster>/<node>/kubepods/…`, so that tools
find a pod's UID and a container's id in cgroup paths. Values are computed as by the kubelet
(pkg/kubelet/cm/helpers_linux.go). The server writes limits from outside; runc sets them when a container starts.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from chaos.embedded.quantity import parse_quantity, qos_class
from chaos.errors import EnvironmentUnfit

ROOT: Final = "/sharedfate"
USED: Final = ("cpu", "cpuacct", "memory", "pids", "freezer", "devices")
PERIOD: Final = 100_000  # microseconds of a CPU quota
MIN_QUOTA: Final = 1000
MAX_QUOTA: Final = (1 << 44) - 1  # microseconds; the kernel refuses more
MIN_SHARES: Final = 2
MAX_SHARES: Final = 262_144
_OURS: Final = min(
    MAX_SHARES, 4 * 1024 * (os.cpu_count() or 1)
)  # of our root and of each cluster: four machines' worth of cores


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container or pod may use. None: no limit."""

    shares: int = MIN_SHARES
    quota: int | None = None  # microseconds per PERIOD
    memory: int | None = None  # bytes


@cache
def controllers() -> dict[str, str]:
    """The mounted hierarchies: controller -> mount point; {"": …} with version 2 alone."""
    found: dict[str, str] = {}
    unified = ""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split()[:3]
            target = before.split()[4]
            if kind == "cgroup2":
                unified = target
            elif kind == "cgroup":
                for name in options.split(","):
                    if name in USED:
                        found[name] = target
    if {"cpu", "memory"} <= found.keys():
        return {name: found[name] for name in USED if name in found}
    if not unified:
        raise EnvironmentUnfit("no control groups are mounted: containers' CPU and memory limits need /sys/fs/cgroup")
    return {"": unified}


def prepare(path: str) -> None:
    """Enable the controllers below `path`, and give all clusters together the weight of one machine's services.

    Version 2 enables controllers level by level; version 1 has them everywhere. With the default weight a whole cluster
    would get the share of a single process: every measurement would measure what else the machine runs.
    """
    where = controllers()
    if "" not in where:
        _weigh(f"{where['cpu']}{path}", "cpu.shares", str(_OURS))
        return
    here = where[""]
    for part in ["", *path.strip("/").split("/")]:
        here = f"{here}/{part}" if part else here
        os.makedirs(here, exist_ok=True)
        try:
            with open(f"{here}/cgroup.subtree_control", "w") as file:
                file.write("+cpu +memory +pids")
        except OSError as error:
            raise EnvironmentUnfit(
                f"cannot enable the cpu, memory and pids controllers in {here} ({error.strerror}): "
                "run in a cgroup namespace of its own, or as root of the machine"
            ) from error
    _weigh(f"{where['']}{path}", "cpu.weight", str(weight(_OURS)))


def _weigh(directory: str, name: str, text: str) -> None:
    """Write the weight of `directory`'s parents up to our root."""
    here = os.path.dirname(directory)
    os.makedirs(here, exist_ok=True)
    while True:
        with open(f"{here}/{name}", "w") as file:
            file.write(text)
        if here.endswith(ROOT):
            return
        here = os.path.dirname(here)


def _milli(value: object) -> int:
    return math.ceil(parse_quantity(str(value)) * 1000)


def shares(milli: int) -> int:
    """Convert a request in millicores to cpu.shares."""
    return max(MIN_SHARES, min(MAX_SHARES, milli * 1024 // 1000)) if milli else MIN_SHARES


def quota(milli: int) -> int:
    """Convert a limit in millicores to a CPU quota in microseconds per PERIOD."""
    return min(MAX_QUOTA, max(MIN_QUOTA, milli * PERIOD // 1000))


def weight(cpu_shares: int) -> int:
    """Convert version 1's shares to version 2's cpu.weight, as runc and the kubelet do."""
    return 1 + ((cpu_shares - 2) * 9999) // 262_142


def container_limits(container: Mapping[str, Any]) -> Limits:
    """The limits of one container's `resources`. A limit without a request counts as both."""
    resources = container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    wanted = _milli(requests.get("cpu", limits.get("cpu", 0)))
    return Limits(
        shares(wanted),
        quota(_milli(limits["cpu"])) if "cpu" in limits else None,
        int(parse_quantity(limits["memory"])) if "memory" in limits else None,
    )


def pod_limits(pod: Mapping[str, Any]) -> Limits:
    """Limits summed over the containers; a sum is a limit only when every container has one."""
    running = [
        *pod["spec"]["containers"],
        *(c for c in pod["spec"].get("initContainers", []) if c.get("restartPolicy") == "Always"),
    ]
    initial = [c for c in pod["spec"].get("initContainers", []) if c.get("restartPolicy") != "Always"]
    every = [container_limits(c) for c in running]
    milli = sum(
        _milli(
            c.get("resources", {})
            .get("requests", {})
            .get("cpu", c.get("resources", {}).get("limits", {}).get("cpu", 0))
        )
        for c in running
    )
    quotas = [one.quota for one in every]
    memories = [one.memory for one in every]
    total_quota = None if None in quotas else min(MAX_QUOTA, sum(filter(None, quotas)))
    total_memory = None if None in memories else sum(filter(None, memories))
    for one in map(container_limits, initial):
        total_quota = None if one.quota is None or total_quota is None else max(total_quota, one.quota)
        total_memory = None if one.memory is None or total_memory is None else max(total_memory, one.memory)
    return Limits(shares(milli), total_quota, total_memory)


def pod_path(pod: Mapping[str, Any]) -> str:
    """The pod's cgroup, relative to the node's."""
    tier = {"Guaranteed": "", "Burstable": "/burstable", "BestEffort": "/besteffort"}[
        pod.get("status", {}).get("qosClass") or qos_class(pod)
    ]
    return f"/kubepods{tier}/pod{pod['metadata']['uid']}"


def oci_resources(limits: Limits) -> dict[str, Any]:
    """Render limits as runc's `linux.resources`."""
    cpu: dict[str, Any] = {"shares": limits.shares, "period": PERIOD}
    if limits.quota is not None:
        cpu["quota"] = limits.quota
    return {"cpu": cpu, "memory": {"limit": limits.memory} if limits.memory is not None else {}}


def plan_writes(limits: Limits, *, unified: bool) -> list[tuple[str, str, str]]:
    """(controller, file, text) that apply limits to a live cgroup."""
    if unified:
        return [
            ("", "cpu.weight", str(weight(limits.shares))),
            ("", "cpu.max", f"{'max' if limits.quota is None else limits.quota} {PERIOD}"),
            ("", "memory.max", "max" if limits.memory is None else str(limits.memory)),
        ]
    return [
        ("cpu", "cpu.shares", str(limits.shares)),
        ("cpu", "cpu.cfs_period_us", str(PERIOD)),
        ("cpu", "cpu.cfs_quota_us", str(-1 if limits.quota is None else limits.quota)),
        ("memory", "memory.limit_in_bytes", str(-1 if limits.memory is None else limits.memory)),
    ]


def apply_limits(path: str, limits: Limits) -> None:
    """Apply limits to the cgroup at `path` (as the machine sees it). Raises OSError with the file's name."""
    where = controllers()
    for controller, name, text in plan_writes(limits, unified="" in where):
        with open(f"{where[controller]}{path}/{name}", "w") as file:
            file.write(text)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def usage(path: str) -> tuple[float, int] | None:
    """(CPU seconds, working set in bytes) of a cgroup; None when it is gone."""
    where = controllers()
    try:
        if "" in where:
            base = where[""] + path
            stat = dict(line.split() for line in _read(f"{base}/cpu.stat").splitlines())
            seconds, used, key, file = (
                int(stat["usage_usec"]) / 1e6,
                int(_read(f"{base}/memory.current")),
                "inactive_file",
                "memory.stat",
            )
        else:
            seconds = int(_read(f"{where['cpuacct']}{path}/cpuacct.usage")) / 1e9
            base = where["memory"] + path
            used, key, file = int(_read(f"{base}/memory.usage_in_bytes")), "total_inactive_file", "memory.stat"
        inactive = next(
            (int(line.split()[1]) for line in _read(f"{base}/{file}").splitlines() if line.startswith(key + " ")), 0
        )
    except OSError:
        return None
    return seconds, max(0, used - inactive)


def remove_tree(path: str) -> None:
    """Kill every process below `path` and remove the directories, in every hierarchy. Idempotent."""
    for root in controllers().values():
        top = root + path
        for _ in range(200):
            directories = [directory for directory, _, _ in os.walk(top, topdown=False)]
            for directory in directories:
                with contextlib.suppress(OSError):
                    for pid in _read(f"{directory}/cgroup.procs").split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            if not os.path.isdir(top):
                break
            time.sleep(
                0.005
            )  # on a thread of its own: the kernel tells nobody when a killed process has left its cgroup
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(top))
        with contextlib.suppress(OSError):
            os.rmdir(root + ROOT)
