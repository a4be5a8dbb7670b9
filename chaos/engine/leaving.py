"""Servers of a tenant that are scaled down while they are called: what was lost until all who call them knew."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Final

from chaos.engine.beside import SECONDS, Beside
from chaos.engine.targets import WHOLE_POD
from chaos.engine.topology import REQUEST_TIMEOUT
from chaos.engine.trial import Trial
from chaos.history.model import Outcome, Samples
from chaos.kube.client import Object
from chaos.kube.objects import is_deleting
from chaos.mesh import manifests
from chaos.model.flow import Flow, WindowKind
from chaos.model.modes import ProxyMode
from chaos.verdict.check import Check, decided, measured, undecided

RATE: Final = 20.0  # requests a second to each, each on a connection of its own: a small sidecar bears as many
UNTOLD_SECONDS: Final = 3.0  # within which callers know, where nothing delays it: kube-proxy waits for up to a second
SLACK: Final = 1.0  # seconds beyond the time by which all must know, for the machine


class Loss(StrEnum):
    """What becomes of requests to a server that leaves."""

    NONE = "none is lost"
    SOME = "some are lost"
    UNSAID = "a race decides"


@dataclass(frozen=True, slots=True)
class Known:
    """When its callers know that a server leaves, in seconds after it was told to end: not before, and not after."""

    least: float
    most: float

    @classmethod
    def of(cls, mode: ProxyMode, *, delay: float) -> Known:
        """Return when callers know in a mode whose control plane was slowed by that delay; 0: it was not."""
        return cls(delay, delay + SLACK) if delay and mode.hops else cls(0.0, UNTOLD_SECONDS)


def predict_loss(mode: ProxyMode, *, pre_stop: float, known: Known) -> Loss:
    """Predict what becomes of requests to a server that leaves. Pure.

    The server answers until its hook's sleep is over; its proxy, where it is told at the same moment, only for as long
    as it drains. Whoever knows before that loses nothing, and whoever knows later must.

    Args:
        pre_stop: seconds that the server's hook sleeps before SIGTERM, upon which it accepts nothing more.
    """
    answers = min(pre_stop, mode.drains) if mode.ends_with_app else pre_stop
    if answers >= known.most:
        return Loss.NONE
    return Loss.SOME if answers < known.least else Loss.UNSAID


@dataclass(frozen=True, slots=True)
class LeavingSeen:
    """What became of the requests that fell due in a server's own window, which begins when it was told to end."""

    calls: int
    lost: int
    arrived: int  # answered by the server that left
    last_lost: float | None  # seconds after that moment
    last_arrived: float | None

    @classmethod
    def read(cls, samples: Samples, *, since: int, until: int, server: int | None) -> LeavingSeen:
        """Read it from a flow's samples. Pure.

        Args:
            since: ns: when the server was told to end; until: the end of its window.
            server: its number in the samples; None: it never answered.
        """
        rows = samples[(samples["due"] >= since) & (samples["due"] < until)]
        lost = rows["due"][rows["outcome"] != Outcome.OK]
        there = rows["due"][(rows["outcome"] == Outcome.OK) & (rows["server"] == server)] if server is not None else []

        def last(dues: Any) -> float | None:
            return (int(max(dues)) - since) / 1e9 if len(dues) else None

        return cls(len(rows), len(lost), len(there), last(lost), last(there))

    def judge(self, predicted: Loss, *, name: str, known: Known) -> list[Check]:
        """Hold it against what was predicted, and against the time by which nobody may call the server. Pure.

        Args:
            name: of the server, in the checks.
        """
        said = f"{self.lost} of {self.calls} requests were lost, and {self.arrived} reached it"
        if self.last_lost is not None:
            said += f"; the last was lost {self.last_lost:.1f} s after it was told to end"
        lost = measured(f"requests lost by {name}", said, self.lost, "requests")
        if not self.calls:
            return [undecided(f"{name} is called", "no request fell due after it was told to end")]
        checks = [lost]
        if predicted is Loss.NONE:
            checks.append(decided(f"{name} loses no request", not self.lost, said, self.lost, "requests"))
        elif predicted is Loss.SOME:
            checks.append(decided(f"{name} loses requests", self.lost > 0, said, self.lost, "requests"))
        latest = max(self.last_lost or 0.0, self.last_arrived or 0.0)
        by = known.most + SLACK
        checks.append(
            decided(
                f"nobody calls {name} once all know",
                latest <= by,
                f"the last request that went to it fell due after {latest:.1f} s, and all know after {by:g} s at most",
                latest,
                "s",
            )
        )
        return checks


@dataclass(frozen=True, slots=True)
class LeavingServer:
    """A server that will leave: its name (of its Service too), and for how long its hook sleeps before SIGTERM."""

    name: str
    pre_stop: float = 0.0


@dataclass(frozen=True, slots=True)
class Left:
    """A pod (`namespace/name`) that was told to end, and the last instant (ns) at which it had not been yet."""

    pod: str
    told: int


class LeavingServers(AbstractContextManager["LeavingServers"]):
    """Servers of the first tenant that exist, and are called, while the block runs. Each has two pods."""

    def __init__(self, trial: Trial, *servers: LeavingServer) -> None:
        self.trial, self.cluster, self.servers = trial, trial.cluster, servers
        self.tenant = trial.deployment.tenants[0]
        nodes = trial.placement.nodes_of(self.tenant.server)
        objects = [
            obj
            for one in servers
            for obj in manifests.leaving(one.name, tenant=self.tenant.name, nodes=nodes, pre_stop=one.pre_stop)
        ]
        self._beside = Beside(trial, objects, dict.fromkeys((one.name for one in servers), 2))
        self._flows = {
            one.name: Flow(self.tenant.client, f"{self.tenant.namespace}/{one.name}", label=one.name) for one in servers
        }
        self._stack = ExitStack()

    def __enter__(self) -> LeavingServers:
        with ExitStack() as stack:
            stack.enter_context(self._beside)
            orders = [
                {
                    "name": one.name,
                    "label": one.name,
                    "server": f"{self.tenant.namespace}/{one.name}",
                    "target": f"{one.name}:80",
                    "rate": RATE,
                    "timeout": REQUEST_TIMEOUT,
                    "new_connections": True,
                }
                for one in self.servers
            ]
            stack.enter_context(self.trial.deployment.calls_beside(self.tenant, *orders))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def leave(self, *, seconds: float) -> dict[str, LeavingSeen]:
        """Scale one server after the other down to one pod, go on calling each for so many seconds from its own moment,
        and return what became of the requests to each, by its name.
        """
        left = {one.name: self._shut_down(one) for one in self.servers}
        ends = {name: at.told + int(seconds * 1e9) for name, at in left.items()}
        self.trial.observe_until(max(ends.values()))
        for name, at in left.items():
            self.trial.window(WindowKind.FAULT, at.told, ends[name], f"{name} was told to end")
        return {
            name: LeavingSeen.read(
                self.trial.samples_of(self._flows[name]),
                since=at.told,
                until=ends[name],
                server=self.trial.number_of_pod(at.pod),
            )
            for name, at in left.items()
        }

    def _shut_down(self, server: LeavingServer) -> Left:
        """Scale a server down, wait for its pod that was told to end, and return it with that moment."""
        told = time.time_ns()

        def leaver() -> Object | None:
            nonlocal told
            before = time.time_ns()
            found = next((pod for pod in self._beside.pods(server.name) if is_deleting(pod)), None)
            if found is None:
                told = before
            return found

        self.cluster.patch("Deployment", server.name, {"spec": {"replicas": 1}}, self.tenant.namespace)
        pod = self.cluster.wait(f"a pod of {server.name} is told to end", leaver, seconds=SECONDS, every=0.02)
        self.trial.excused.add((pod["metadata"]["uid"], WHOLE_POD))
        return Left(f"{self.tenant.namespace}/{pod['metadata']['name']}", told)
