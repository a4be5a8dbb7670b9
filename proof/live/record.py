"""Records one history of a live deployment: the reference tenants, with several flows each, under their usual load.

Each tenant has `flows` flows of 200 requests a second to its own server, and its sentinel, as in a trial; flow number k
of all tenants together is *group* k, and each group is judged as one trial, for a trial has one flow of each tenant.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.engine.deployment import Deployment
from chaos.engine.progress import Progress
from chaos.engine.run import Run
from chaos.engine.settings import Settings
from chaos.engine.topology import REQUEST_TIMEOUT, TenantLoad
from chaos.history.model import EventKind
from chaos.history.store import History, HistoryWriter
from chaos.load.client import LoaderClient, ServerClient
from chaos.load.collector import Collector

RATE: Final = 200.0
SETTLE: Final = 2.0  # s after the load began: first connections, certificates
FLOWS: Final = {
    "none": 6,
    "node": 2,
    "sidecar": 1,
    "ambient-namespace": 2,
}  # what the proxies' usual budget bears with room to spare


@dataclass
class Session:
    """A deployment whose samples are being gathered."""

    deployment: Deployment
    collector: Collector
    writer: HistoryWriter

    def hold(self, seconds: float) -> None:
        """Let the load go on; then everything that was done by now has arrived."""
        time.sleep(max(0.0, seconds))
        self.collector.poll_now()
        if self.collector.failures:
            raise RuntimeError(f"a loader was lost: {self.collector.failures}")

    def misbehave(self, tenant: TenantLoad, misbehaviour: dict[str, float]) -> None:
        """How every server of a tenant treats its requests from now on; they turn back by themselves after `seconds` of
        them.
        """
        cluster = self.deployment.cluster
        for pod in cluster.list("Pod", tenant.namespace, labels="sharedfate.io/role=server"):
            ServerClient.of(cluster, tenant.namespace, pod["metadata"]["name"]).misbehave(misbehaviour)


@contextmanager
def session(mode: str, directory: Path, *, flows: int, progress: Progress, facts: dict[str, str]) -> Iterator[Session]:
    """A mode on a cluster of its own, under load, its history growing in `directory` until left; saved whole, or
    LostSamples.
    """
    settings = Settings(modes=(mode,), out=directory / "run", rate=RATE)
    with Run(settings, progress=progress) as run:
        deployment = run.deployment(mode)
        loaders = list(deployment.loaders())
        with HistoryWriter(directory, {"mode": mode, **facts}) as writer, deployment.recorder.into(writer):  # type: ignore[union-attr]
            with Collector(run.cluster, loaders, writer) as collector:
                for tenant in deployment.tenants:
                    _more_flows(deployment, tenant, flows)
                made = Session(deployment, collector, writer)
                made.hold(SETTLE)
                deployment.restore_load()
                writer.note(begin=time.time_ns())
                yield made
                writer.note(end=time.time_ns())
                made.hold(REQUEST_TIMEOUT)
                collector.finish(stop_flows=False)


def _more_flows(deployment: Deployment, tenant: TenantLoad, flows: int) -> None:
    pod = tenant.loader(deployment.cluster)["metadata"]["name"]
    LoaderClient.of(deployment.cluster, tenant.namespace, pod).set_flows(
        [
            {
                "name": f"http-{number}",
                "label": str(number),
                "server": tenant.server,
                "target": "server:80",
                "rate": RATE,
                "timeout": REQUEST_TIMEOUT,
            }
            for number in range(1, flows)
        ]
    )


def record_quiet(
    mode: str, directory: Path, *, seconds: float, flows: int, progress: Progress, facts: dict[str, str]
) -> None:
    """A history in which nothing was done to anything."""
    with session(mode, directory, flows=flows, progress=progress, facts=facts) as made:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            made.hold(min(left, 2.0))
        made.writer.event(EventKind.NOTE, {"quiet": seconds})


def load(directory: Path) -> History:
    """The saved history of a session."""
    return History.load(directory)
