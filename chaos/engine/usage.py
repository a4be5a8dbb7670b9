"""Reads what containers use, CPU and memory: from the metrics API where its readings are quick, else from a pod of ours
on each node.

A fault is held for ten seconds, so a reading must cover a second or two. metrics-server reports means over 15 s and
more, and many clusters have none, kind among them.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from chaos.errors import ApiError, NotFound
from chaos.faults import helper_pod
from chaos.inpod.usage_helper import DIGITS
from chaos.kube.client import Cluster
from chaos.kube.quantity import parse
from chaos.names import SYSTEM_NAMESPACE

_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_TERM: Final = re.compile(r"(\d+(?:\.\d*)?)(h|ms|m|s|us|µs|ns)")
_DURATION: Final = re.compile(f"(?:{_TERM.pattern})+")

Object = dict[str, Any]
Facts = dict[str, Any]
Key = tuple[str, str, str]  # namespace, pod, container

QUICK: Final = 2.0  # seconds that a reading may cover
_LOOK: Final = 3.0  # seconds in which a metrics API that is served must have a reading
_EVERY: Final = 0.25  # seconds between two lines of a meter
_LINES: Final = 5  # of which the first and the last make a reading
_SILENT: Final = 30.0  # seconds without a new line after which a meter is made again; an image may have to be pulled
_LIFE: Final = 43_200.0  # seconds: a meter ends with its namespace, and at the latest after these
_RESOURCES: Final = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "96Mi"}}


class UsageReader(Protocol):
    """Where readings come from."""

    def read(self) -> list[Facts]:
        """Return a reading of each pod: namespace, pod, time, window, and each container's cores and bytes. Raises
        ApiError when nothing can be read.
        """
        ...


def usage_facts(metrics: Object) -> Facts:
    """Convert a PodMetrics to cores and bytes."""
    return {
        "namespace": metrics["metadata"].get("namespace", ""),
        "pod": metrics["metadata"]["name"],
        "time": metrics.get("timestamp", ""),
        "window": metrics.get("window", ""),
        "containers": {
            one["name"]: {"cores": float(parse(one["usage"]["cpu"])), "bytes": int(parse(one["usage"]["memory"]))}
            for one in metrics.get("containers") or []
        },
    }


@dataclass(frozen=True, slots=True)
class MetricsApi:
    """The cluster's own."""

    cluster: Cluster
    namespaces: Sequence[str]

    def read(self) -> list[Facts]:
        return [
            usage_facts(metrics)
            for namespace in self.namespaces
            for metrics in self.cluster.list("PodMetrics", namespace)
        ]


@dataclass(slots=True)
class _Meter:
    """A meter that was made. `changed`: when it last said something new, by the monotonic clock."""

    pod: str
    last: str = ""
    changed: float = field(default_factory=time.monotonic)

    def says_new(self, lines: Sequence[str]) -> bool:
        """Whether the last of these lines is another than before."""
        if not lines or lines[-1] == self.last:
            return False
        self.last, self.changed = lines[-1], time.monotonic()
        return True


@dataclass(slots=True)
class Meters:
    """A pod of ours on each node, made at the first reading. What it said before is no reading; one that says nothing
    new any more has ended or hangs, and is made again.

    Args:
        nodes: on which a meter is wanted.
        containers: the first digits of each container's ID -> where it is, now.
    """

    cluster: Cluster
    run: str
    nodes: Sequence[str]
    containers: Callable[[], Mapping[str, Key]]
    _made: dict[str, _Meter] = field(default_factory=dict)

    def read(self) -> list[Facts]:
        known, found = self.containers(), {}
        for node in self.nodes:
            for facts in metered(self._lines(node), known):
                found[facts["namespace"], facts["pod"]] = facts
        return list(found.values())

    def _lines(self, node: str) -> list[str]:
        """The last lines of a node's meter; none while it starts."""
        meter = self._made.get(node)
        if meter is None:
            self._made[node] = _Meter(self._start(node))
            return []
        try:
            lines = self.cluster.logs(SYSTEM_NAMESPACE, meter.pod, tail=_LINES).splitlines()
        except NotFound:  # somebody deleted it
            del self._made[node]
            return []
        except ApiError as error:
            if error.code == 403:
                raise
            lines = []  # it does not run yet (400), or its kubelet does not answer
        if meter.says_new(lines):
            return lines
        if time.monotonic() - meter.changed > _SILENT:
            self.cluster.delete("Pod", meter.pod, SYSTEM_NAMESPACE, grace=0)
            del self._made[node]
        return []

    def _start(self, node: str) -> str:
        name = f"helper-meter-{secrets.token_hex(4)}"  # as all helpers begin, which reports leave out
        command = ["python", "-m", "chaos.inpod.usage_helper", "--every", str(_EVERY), "--for", str(_LIFE)]
        pod = helper_pod.manifest(name, command, node=node, run=self.run, seconds=_LIFE, resources=_RESOURCES)
        self.cluster.create(pod)
        return name


def metered(lines: Sequence[str], known: Mapping[str, Key]) -> list[Facts]:
    """Convert a meter's last lines to a reading of each pod of which a container is known, over the time from the first
    to the last line, and no longer than QUICK. Pure.
    """
    looks = []
    for line in lines:
        try:
            looks.append(json.loads(line))
        except ValueError:
            continue  # cut off, or somebody else's
    if len(looks) < 2:
        return []
    last = looks[-1]
    first = next(look for look in looks if last["at"] - look["at"] <= QUICK * 1e9)
    passed = last["at"] - first["at"]
    found: dict[tuple[str, str], Facts] = {}
    for one, (cpu, held) in last["containers"].items():
        if one not in known or one not in first["containers"] or passed <= 0:
            continue
        namespace, pod, container = known[one]
        facts = found.setdefault(
            (namespace, pod),
            {
                "namespace": namespace,
                "pod": pod,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last["at"] / 1e9)),
                "window": f"{passed / 1e9:.2f}s",
                "containers": {},
            },
        )
        facts["containers"][container] = {"cores": (cpu - first["containers"][one][0]) / passed, "bytes": held}
    return list(found.values())


def digits_of(container_id: str) -> str:
    """The first digits of a container's ID, as a meter writes them, from `RUNTIME://ID`."""
    return container_id.rpartition("//")[2][:DIGITS]


def seconds_of(window: str) -> float:
    """Parse a PodMetrics' window, a duration as Go writes it; infinite when it cannot be read."""
    if not _DURATION.fullmatch(window):
        return math.inf
    return sum(float(number) * _UNITS[unit] for number, unit in _TERM.findall(window))


def is_quick(cluster: Cluster, namespaces: Sequence[str], *, seconds: float = _LOOK) -> bool:
    """Whether the metrics API has readings of these namespaces' pods, each of which covers no more than QUICK
    seconds.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = MetricsApi(cluster, namespaces).read()
        except ApiError as error:
            if error.code in (403, 404, 503):
                return False
            raise
        if found:
            return all(seconds_of(one["window"]) <= QUICK for one in found)
        time.sleep(0.2)
    return False


def choose_reader(
    cluster: Cluster, namespaces: Sequence[str], *, run: str, containers: Callable[[], Mapping[str, Key]]
) -> UsageReader:
    """Return the reader of what the pods of these namespaces use: the metrics API where it is quick, else meters on the
    nodes on which the pods lie now.
    """
    if is_quick(cluster, namespaces):
        return MetricsApi(cluster, namespaces)
    nodes = {
        pod["spec"]["nodeName"]
        for namespace in namespaces
        for pod in cluster.list("Pod", namespace)
        if pod["spec"].get("nodeName")
    }
    return Meters(cluster, run, sorted(nodes), containers)
