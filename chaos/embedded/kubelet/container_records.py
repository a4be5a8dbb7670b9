"""The kubelet's records of a pod's containers, one per incarnation, and the back-off between them.

Records are the kubelet's memory, not the API's: status (status.py) and actions (pod_actions.py) are computed from
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

INITIAL_BACKOFF: Final = 10.0
MAX_BACKOFF: Final = 300.0


@dataclass(slots=True)
class Record:
    """One incarnation of one container."""

    id: str  # 64 hex digits
    name: str
    attempt: int  # restartCount
    sandbox: int  # attempt of the pod's sandbox that it lives in
    image: str
    image_id: str
    spec: Mapping[str, Any]  # the container as it was started
    state: Literal["running", "exited"] = "running"
    started_at: float = 0.0  # 0 when it never ran
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    user: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)  # in effect
    cgroup: str = ""  # within the node
    log: str = ""  # path below the pod's directory
    pid: int = 0  # in the node
    unseen: tuple[int, float, bool] | None = None  # its end (code, when, oom), before the kubelet has looked

    def end(self, code: int, at: float, *, oom: bool, reason: str = "", message: str = "") -> None:
        """Record that it ended."""
        self.state = "exited"
        self.exit_code = code
        self.finished_at = at
        self.reason = reason or ("OOMKilled" if oom and code else "Completed" if code == 0 else "Error")
        self.message = message
        self.unseen = None


@dataclass(slots=True)
class _Entry:
    seconds: float
    updated: float


class Backoff:
    """Doubling delays per key, as client-go's flowcontrol.Backoff: a key unused for twice the maximum starts afresh."""

    def __init__(self, initial: float = INITIAL_BACKOFF, maximum: float = MAX_BACKOFF) -> None:
        self._initial = initial
        self._maximum = maximum
        self._entries: dict[str, _Entry] = {}

    def remaining(self, key: str, since: float, now: float) -> float:
        """Seconds until an attempt after an event at `since` may start; 0 when it may start now."""
        entry = self._entries.get(key)
        if entry is None or since - entry.updated > 2 * self._maximum:
            return 0.0
        return max(0.0, entry.seconds - (now - since))

    def remaining_since_update(self, key: str, now: float) -> float:
        """Seconds until another attempt may start, counted from the last one."""
        entry = self._entries.get(key)
        return self.remaining(key, entry.updated, now) if entry else 0.0

    def next(self, key: str, since: float, now: float) -> None:
        """Record an attempt, which doubles the delay of the next one."""
        entry = self._entries.get(key)
        if entry is None or since - entry.updated > 2 * self._maximum:
            self._entries[key] = _Entry(self._initial, now)
        else:
            entry.seconds = min(entry.seconds * 2, self._maximum)
            entry.updated = now

    def seconds(self, key: str) -> float:
        """The key's present delay, for messages."""
        entry = self._entries.get(key)
        return entry.seconds if entry else self._initial

    def forget(self, belongs: Callable[[str], bool]) -> None:
        for key in [key for key in self._entries if belongs(key)]:
            del self._entries[key]


@dataclass(slots=True)
class ProbeState:
    """Latest probe results of a running container, by its record's id."""

    started: bool = False
    ready: bool = False
    failed: Literal["", "liveness", "startup"] = ""  # a threshold was crossed: to be killed
    failure: str = ""


@dataclass(slots=True)
class PodState:
    """The input of status and actions, beside the pod object itself."""

    records: dict[str, list[Record]] = field(default_factory=dict)  # by container name, oldest first, at most two
    waiting: dict[str, tuple[str, str]] = field(
        default_factory=dict
    )  # why a container could not be started: reason, message
    probes: dict[str, ProbeState] = field(default_factory=dict)  # by record id
    sandbox: int = -1  # attempt of the current sandbox, -1 before the first
    sandbox_ready: bool = False
    address: str = ""
    started_at: str = ""
    terminal: bool = False  # it is being, or has been, ended: nothing will be restarted
    stopped: bool = False  # and nothing runs any longer
    resizing: str = ""  # since when (RFC 3339) a resize is being put into effect; "" when none is
    reason: str = ""  # of the pod, such as DeadlineExceeded
    message: str = ""

    def latest(self, name: str) -> Record | None:
        found = self.records.get(name)
        return found[-1] if found else None

    def current(self, name: str) -> Record | None:
        """The latest record, if it belongs to the current sandbox."""
        record = self.latest(name)
        return record if record is not None and record.sandbox == self.sandbox else None

    def add(self, record: Record) -> list[Record]:
        """Add a new incarnation; the records that are dropped for it."""
        kept = self.records.setdefault(record.name, [])
        kept.append(record)
        dropped = kept[:-2]
        del kept[:-2]
        return dropped

    def running(self) -> list[Record]:
        return [record for records in self.records.values() for record in records if record.state == "running"]


def restarts(pod: Mapping[str, Any], container: Mapping[str, Any], exit_code: int) -> bool:
    """Whether a container that ended so is restarted: by its own rules, its own policy, or its pod's."""
    policy = container.get("restartPolicy")
    if policy:
        for rule in container.get("restartPolicyRules") or []:
            codes = rule["exitCodes"]
            if (exit_code in codes.get("values", [])) == (codes["operator"] == "In"):
                return bool(rule["action"] == "Restart")
    policy = policy or pod["spec"].get("restartPolicy", "Always")
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Whether an init container is a native sidecar (restartPolicy: Always)."""
    return container.get("restartPolicy") == "Always"
