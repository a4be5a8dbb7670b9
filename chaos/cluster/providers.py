"""Opens the cluster that an option names: `embedded` or `context:NAME`. Nothing above knows which it got."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from chaos.cluster.client import Cluster
from chaos.errors import Misuse


class Kind(StrEnum):
    EMBEDDED = "embedded"
    CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A cluster option, parsed: `context:NAME` carries the context's name."""

    kind: Kind
    context: str = ""


def parse_spec(text: str) -> ClusterSpec:
    """Parse a cluster option; raises Misuse that says what would be right."""
    kind, _, context = text.partition(":")
    if kind == Kind.CONTEXT and context:
        return ClusterSpec(Kind.CONTEXT, context)
    if text == Kind.EMBEDDED:
        return ClusterSpec(Kind.EMBEDDED)
    raise Misuse(f"unknown cluster {text!r}: known are embedded and context:NAME")


@contextmanager
def open_cluster(text: str, *, name: str = "sharedfate", nodes: int = 2, keep: bool = False,
                 kubeconfig: Path | None = None) -> Iterator[Cluster]:
    """The cluster of that option; one that we made is gone afterwards, unless `keep`.

    Args:
        text: `embedded` or `context:NAME`.
        name: of a cluster that we make; two of different names live side by side.
        nodes: of a cluster that we make.
        kubeconfig: for `context:NAME`; None for the user's own.

    Raises Misuse for an unknown option and EnvironmentUnfit when this machine cannot run it, before anything is started.
    """
    spec = parse_spec(text)
    match spec.kind:
        case Kind.EMBEDDED:
            from chaos.cluster.embedded.provider import down, up

            path = up(name, nodes=nodes, keep=keep)
            try:
                yield from _client(Cluster(path, kind="embedded", name=name))
            finally:
                if not keep:
                    down(name)
        case Kind.CONTEXT:
            default = Path.home() / ".kube" / "config"
            yield from _client(Cluster(kubeconfig or default, context=spec.context, kind="context", name=spec.context))


def _client(cluster: Cluster) -> Iterator[Cluster]:
    try:
        yield cluster
    finally:
        cluster.close()
