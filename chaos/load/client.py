"""Clients of the reference apps' control ports, for the runner: the only code that knows their paths.

`LoaderClient` speaks to a loader (`chaos.load.agent`), `ServerClient` to a reference server (`chaos.apps.server`). Both
go to the pod's control port by the cluster's way (`chaos.kube.ways`), which no proxy of the mesh carries;
`choose_way` finds the one that works.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import urllib3
from numpy.typing import NDArray

from chaos.control_key import ControlKey
from chaos.errors import ApiError, EnvironmentUnfit, ExperimentFailure, SharedfateError
from chaos.history.ledger import ENTRY, Kind, entries_of
from chaos.history.model import SAMPLE, Samples
from chaos.history.words import Pace
from chaos.kube.client import Cluster
from chaos.kube.control_key import opened_http
from chaos.kube.kubeconfig import one_line
from chaos.kube.ways import Way
from chaos.names import PORT_CONTROL

Exchange = Callable[[str, bytes | None], bytes]  # path, body (POST when given) -> answer's body


_MOST_PAGE: Final = 1 << 24  # bytes of a page of entries, inflated
_WAY_SECONDS: Final = 5.0  # for an answer by one way, before the next is tried
# Where no way works: what to open for which, in the order in which they are tried.
OPEN: Final = (
    f"let the API server reach port {PORT_CONTROL} of pods (a firewall rule or security group from the control plane "
    "to the nodes), or port 10250 of the nodes, and bind manifests/rbac/runner-streams.yaml for pods/portforward and "
    "pods/exec"
)


def control_port(
    cluster: Cluster, namespace: str, pod: str, *, key: ControlKey | None = None, seconds: float = 10.0
) -> Exchange:
    """Exchange one request with a pod's control port, by the cluster's stored key or another. Raises ApiError, with
    code 404 when there is no such pod.
    """

    def exchange(path: str, body: bytes | None) -> bytes:
        method = "GET" if body is None else "POST"
        return opened_http(
            cluster, namespace, pod, PORT_CONTROL, path, key=key, method=method, body=body, timeout=seconds
        )

    return exchange


def choose_way(cluster: Cluster, namespace: str, pod: str, *, key: ControlKey | None = None) -> str:
    """Set the cluster's way to one by which that loader gives its samples: the present one, else the first that works.
    Returns a sentence for people when it changed, else "". Raises EnvironmentUnfit with what each way said, and what to
    open.
    """
    refused: dict[Way, str] = {}
    present = cluster.way
    for way in sorted(Way, key=lambda one: one is not present):
        cluster.way = way
        client = LoaderClient(control_port(cluster, namespace, pod, key=key, seconds=_WAY_SECONDS))
        try:
            client.state()
            client.samples()
        except (SharedfateError, urllib3.exceptions.HTTPError, OSError) as error:
            refused[way] = one_line(error)
            continue
        if not refused:
            return ""
        return f"samples are fetched by {way}: {_told(refused)}"
    cluster.way = present
    raise EnvironmentUnfit(f"no way to port {PORT_CONTROL} of {namespace}/{pod}: {_told(refused)}: {OPEN}")


def _told(refused: Mapping[Way, str]) -> str:
    return "; ".join(f"{way}: {words}" for way, words in refused.items())


@dataclass(frozen=True, slots=True)
class LedgerPart:
    """What a page holds of one flow's ledger.

    Attributes:
        begin: how many entries, paces and kinds come before these.
        entries: of dtype ENTRY.
    """

    begin: tuple[int, int, int]
    entries: NDArray[np.void]
    paces: list[Pace]
    kinds: list[Kind]


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of `GET /samples` or of `GET /ledger`: the loader's state, and whole samples from number `first` on;
    with ledgers, samples are what no entry can hold, numbered by themselves.
    """

    state: Mapping[str, Any]
    records: Samples
    first: int
    ledgers: tuple[LedgerPart, ...] = ()


def parse_page(body: bytes) -> Page:
    """Parse an answer of `GET /samples`; raises ExperimentFailure when it is no loader's."""
    size = int.from_bytes(body[:4], "little")
    try:
        state = json.loads(body[4 : 4 + size])
        records = np.frombuffer(body, dtype=SAMPLE, offset=4 + size)
    except ValueError as error:
        raise ExperimentFailure(f"this is not a loader's page of samples ({len(body)} bytes): {error}") from error
    if len(records) != state["count"]:
        raise ExperimentFailure(f"a page of {state['count']} samples held {len(records)}")
    return Page(state, records, state["from"])


def parse_ledger(answer: bytes) -> Page:
    """Parse an answer of `GET /ledger`; raises ExperimentFailure when it is no loader's."""
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(answer, _MOST_PAGE)
        size = int.from_bytes(body[:4], "little")
        state = json.loads(body[4 : 4 + size])
        begin, count = 4 + size, state["in_full"]["count"]
        records = np.frombuffer(body, SAMPLE, count, begin)
        begin += count * SAMPLE.itemsize
        parts = []
        for ledger in state["ledgers"]:
            end = begin + ledger["count"] * ENTRY.itemsize
            entries = entries_of(body[begin:end])
            if len(entries) != ledger["count"]:
                raise ValueError(f"a page of {ledger['count']} entries held {len(entries)}")
            paces = [(int(first), int(due), int(gap)) for first, due, gap in ledger["paces"]]
            kinds = [(int(a), int(b), int(c), int(d), int(e)) for a, b, c, d, e in ledger["kinds"]]
            entry, pace, kind = ledger["from"]
            parts.append(LedgerPart((entry, pace, kind), entries, paces, kinds))
            begin = end
        if begin != len(body) or not inflater.eof:
            raise ValueError(f"{len(body) - begin} bytes more than it says")
        return Page(state, records, state["in_full"]["from"], tuple(parts))
    except (zlib.error, ValueError, TypeError, KeyError) as error:
        raise ExperimentFailure(f"this is not a loader's page of entries ({len(answer)} bytes): {error!r}") from error


@dataclass(frozen=True, slots=True)
class LoaderClient:
    """One loader. Every method is one exchange, and raises what the exchange raises."""

    exchange: Exchange

    @classmethod
    def of(cls, cluster: Cluster, namespace: str, pod: str, *, key: ControlKey | None = None) -> LoaderClient:
        """Return the client of the loader in that pod. `key`: None for the one that the cluster holds."""
        return cls(control_port(cluster, namespace, pod, key=key))

    def build(self) -> str:
        """Return the build of the image that the loader runs from (`chaos.build`); "" when it names none."""
        try:
            return str(json.loads(self.exchange("/build", None))["build"])
        except ApiError as error:
            if error.code == 404:
                return ""
            raise

    def state(self) -> dict[str, Any]:
        """Return the counts of every flow and aggressor, and the loader's own lateness."""
        return dict(json.loads(self.exchange("/state", None)))

    def samples(self, first: int = 0, *, epoch: str = "", pending: bool = False) -> Page:
        """Return the records from number `first` of that epoch on; from 0 when the loader has begun another.

        Args:
            pending: also ask, for each flow, when its requests without a sample yet fell due.
        """
        query = [f"from={first}", *([f"epoch={epoch}"] if epoch else []), *(["pending=1"] if pending else [])]
        return parse_page(self.exchange(f"/samples?{'&'.join(query)}", None))

    def ledger(self, place: Sequence[int], *, epoch: str = "", pending: bool = False) -> Page:
        """Return what comes after a place of that epoch's ledgers (`chaos.load.ledger`); from the begin when the loader
        has begun another. `pending`: as in `samples`.
        """
        after = ",".join(map(str, place or [0]))
        query = [f"after={after}", *([f"epoch={epoch}"] if epoch else []), *(["pending=1"] if pending else [])]
        return parse_ledger(self.exchange(f"/ledger?{'&'.join(query)}", None))

    def flow(self, name: str) -> dict[str, Any] | None:
        """Return the counts of one flow; None when the loader has no flow of that name."""
        return next((dict(flow) for flow in self.state()["flows"] if flow["name"] == name), None)

    def set_flows(self, flows: Sequence[Mapping[str, Any]]) -> None:
        """Start or change flows; `chaos.load.spec` says what a flow's JSON holds."""
        self.exchange("/flows", json.dumps(list(flows)).encode())

    def stop_flows(self) -> None:
        """Stop sending requests until a flow is set again."""
        self.exchange("/stop", b"")

    def under_way(self) -> int:
        """Return how many requests have no answer yet."""
        return int(json.loads(self.exchange("/stop", None))["under_way"])

    def aggressors(self) -> list[dict[str, Any]]:
        """Return every aggressor that the loader was given, ended ones included."""
        return list(json.loads(self.exchange("/aggressor", None)))

    def start_aggressor(self, spec: Mapping[str, Any]) -> None:
        """Start an overload; `chaos.load.spec` says what an aggressor's JSON holds."""
        self.exchange("/aggressor", json.dumps(dict(spec)).encode())

    def stop_aggressors(self) -> None:
        """End every aggressor. Safe to repeat."""
        self.exchange("/aggressor", b'{"stop":true}')


@dataclass(frozen=True, slots=True)
class ServerClient:
    """One reference server. Every method is one exchange, and raises what the exchange raises."""

    exchange: Exchange

    @classmethod
    def of(cls, cluster: Cluster, namespace: str, pod: str) -> ServerClient:
        """Return the client of the server in that pod."""
        return cls(control_port(cluster, namespace, pod))

    def stats(self) -> dict[str, Any]:
        """Return the server's counts of its own answers."""
        return dict(json.loads(self.exchange("/stats", None)))

    def misbehave(self, misbehaviour: Mapping[str, Any]) -> None:
        """Set how the server misbehaves (`chaos.apps.misbehaviour`); without arguments, not at all."""
        self.exchange("/misbehave", json.dumps(dict(misbehaviour)).encode())
