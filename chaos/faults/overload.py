"""One tenant overloads its own path: its loader raises its rate until the path saturates, and holds it there.

The loader ends it by itself at the deadline; recover ends it sooner. It acts through the loader's control port, which
no proxy of the mesh carries.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from chaos.errors import NoEffect, NotFound, NotReady, RecoveryFailed, TargetVanished
from chaos.faults.activity import Activity, ActsAt
from chaos.faults.container import refuse_vanished
from chaos.faults.model import Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster
from chaos.load.client import LoaderClient
from chaos.model.faulting import FaultShape

# Requests a second that a ramp reaches at most where nothing is known to bound it: an application may have no limit.
FREE_RATE: Final = 4_000.0
# Where a proxy's CPU limit does: more than the default budget bears on a fast core, so that the path is the bound.
LIMITED_RATE: Final = 16_000.0
MAX_RATE_REACHED: Final = "max-rate"  # why a ramp ended whose path carried all that it may offer


@dataclass(frozen=True, slots=True)
class Overload:
    """Overload from a loader pod.

    Args:
        profile: `requests`, `handshakes`, `bodies` or `slow-readers`.
        server: namespace/workload that is called.
        address: host:port that is called; protocol: that is spoken there (http1, http2, grpc).
        path, method, headers: of the requests; status: the expected one.
        echoes: the server is a reference application, whose answers are known.
        seconds: the aggressor's own deadline.
        max_rate: requests a second that the ramp may reach; 0: `FREE_RATE`.
        in_flight: requests that wait for their answers at most; with large bodies, this much is what proxies must hold
            in memory.
        saturate_seconds: longest wait for the path to give out.
        timeout: seconds for which an answer is waited for; answer_bytes: of slow readers, its size.
    """

    name: ClassVar[str] = "overload"
    shape: ClassVar[FaultShape] = FaultShape.GRADUAL
    targets: ClassVar[frozenset[str]] = frozenset({"pod", "container"})
    aspects: ClassVar[frozenset[str]] = frozenset({"load"})
    witness: ClassVar[Witness] = Witness.LOADER
    needs: ClassVar[tuple[Need, ...]] = (Need.LOADER,)
    activity: ClassVar[Activity] = Activity("overload_path", "stop_overload", ActsAt.BY_HAND)
    server: str
    address: str = "server:80"
    path: str = "/"
    status: int = 200
    echoes: bool = True
    profile: str = "requests"
    seconds: float = 30.0
    start_rate: float = 500.0
    max_rate: float = 0.0
    in_flight: int = 1024
    saturate_seconds: float = 8.0
    timeout: float = 2.0
    answer_bytes: int = 1 << 20
    protocol: str = "http1"
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        with _loader(cluster, target) as loader:
            return {"aggressors": len(_running(loader.aggressors()))}

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        spec = {
            "profile": self.profile,
            "server": self.server,
            "target": self.address,
            "seconds": self.seconds,
            "start_rate": self.start_rate,
            "max_rate": self.max_rate or FREE_RATE,
            "in_flight": self.in_flight,
            "timeout": self.timeout,
            "answer_bytes": self.answer_bytes,
            "path": self.path,
            "expect_status": self.status,
            "echoes": self.echoes,
            "protocol": self.protocol,
            "method": self.method,
            "headers": dict(self.headers),
        }
        at = time.time_ns()
        with _loader(cluster, receipt.target) as loader:
            loader.start_aggressor(spec)

            def holds() -> dict[str, Any]:
                return next((one for one in loader.aggressors() if one["phase"] == "hold"), {})

            try:
                seen = cluster.wait(f"{receipt.target}: overload held", holds, seconds=self.saturate_seconds, every=0.1)
            except NotReady as error:
                raise NoEffect(f"{receipt.target}: its path carried all the load: {error}") from error
        return Evidence(at, seen)

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        refuse_vanished(cluster, receipt.target)
        with _loader(cluster, receipt.target) as loader:
            loader.stop_aggressors()
            left = _running(loader.aggressors())
        if left:
            raise RecoveryFailed(f"{receipt.target}: its aggressor is still running: {left}")
        return Evidence(time.time_ns(), {"stopped": True})


def _running(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in shown if one["phase"] != "ended"]


@contextmanager
def _loader(cluster: Cluster, target: Target) -> Iterator[LoaderClient]:
    """Return the target's loader; raise TargetVanished when an exchange finds it gone."""
    try:
        yield LoaderClient.of(cluster, target.namespace, target.name)
    except NotFound as error:
        raise TargetVanished(f"{target}: its loader is gone: {error}") from error
