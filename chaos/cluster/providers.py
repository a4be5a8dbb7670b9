"""Opens the cluster that an option names: `embedded[:NAME]`, `kind[:NAME]`, `k3d[:NAME]`, `in-cluster`, `context:NAME`.

Nothing above knows which it got.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

from chaos.cluster.consent import Consent, plan_touched, refuse_production
from chaos.cluster.contexts import ContextFacts, context_facts, kubeconfig_paths, merged_kubeconfig
from chaos.cluster.kind import DEFAULT_NAME, KindOptions, kind_cluster
from chaos.cluster.versions import fetch_version, parse_version, refuse_too_old
from chaos.errors import EnvironmentUnfit, Misuse
from chaos.interrupts import abort
from chaos.kube.access import list_readable
from chaos.kube.client import Cluster
from chaos.kube.credentials import ACCOUNT
from chaos.kube.write_guard import WriteGuard


class Kind(StrEnum):
    EMBEDDED = "embedded"
    KIND = "kind"
    K3D = "k3d"
    CONTEXT = "context"
    IN_CLUSTER = "in-cluster"

    @property
    def theirs(self) -> bool:
        """Whether the cluster exists already and belongs to somebody else."""
        return self in (Kind.CONTEXT, Kind.IN_CLUSTER)


THEIRS: Final = frozenset(kind for kind in Kind if kind.theirs)
BY_KUBECONFIG: Final = frozenset({Kind.CONTEXT, Kind.KIND, Kind.K3D})  # a cluster that runs is found in one


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A cluster option, parsed. An embedded cluster without a name is the caller's to name."""

    kind: Kind
    name: str = ""

    def why_ignored(self, option: str, by: Collection[Kind]) -> str:
        """Why an option would do nothing here, with the next step; "" where it is honoured.

        Args:
            by: the kinds of cluster that honour it.
        """
        if self.kind in by:
            return ""
        kinds = ", ".join(kind for kind in Kind if kind in by)
        return (
            f"{option} does nothing on --cluster {self.kind}: it is for {kinds}; leave it out, or name such a cluster"
        )


def parse_spec(text: str) -> ClusterSpec:
    """Parse a cluster option; raises Misuse that says what would be right."""
    kind, colon, name = text.partition(":")
    if kind == Kind.CONTEXT and name:
        return ClusterSpec(Kind.CONTEXT, name)
    if kind == Kind.CONTEXT:
        raise Misuse("a cluster of yours has to be named: context:NAME (`kubectl config get-contexts` lists them)")
    if kind in (Kind.KIND, Kind.K3D) and (name or not colon):
        return ClusterSpec(Kind(kind), name or DEFAULT_NAME)
    if kind == Kind.EMBEDDED and (name or not colon):
        return ClusterSpec(Kind.EMBEDDED, name)
    if text == Kind.IN_CLUSTER:
        return ClusterSpec(Kind.IN_CLUSTER)
    raise Misuse(
        f"unknown cluster {text!r}: known are embedded[:NAME], kind[:NAME], k3d[:NAME], in-cluster and context:NAME"
    )


@contextmanager
def open_cluster(
    text: str,
    *,
    name: str = "sharedfate",
    nodes: int = 2,
    keep: bool = False,
    kubeconfig: Path | None = None,
    consent: Consent | None = None,
    kind_options: KindOptions | None = None,
) -> Iterator[Cluster]:
    """Open the cluster of that option; one that we made is deleted afterwards, unless `keep`.

    Args:
        text: `embedded[:NAME]`, `kind[:NAME]`, `k3d[:NAME]`, `in-cluster` (from a pod) or `context:NAME`.
        name: of an embedded cluster that the option does not name; two of different names live side by side. One that
            the option names and that is up already is used as it is, and left running.
        nodes: that take pods, of a cluster that we make.
        kubeconfig: for `context:NAME`; None for the user's own ($KUBECONFIG, ~/.kube/config).
        consent: for `context:NAME`: what was agreed to beyond the name.
        kind_options: for `kind` and `k3d`; its `workers` are `nodes`.

    Raises Misuse for an unknown option or missing consent and EnvironmentUnfit when this machine cannot run it, before
    anything is started.
    """
    spec = parse_spec(text)
    match spec.kind:
        case Kind.EMBEDDED:
            from chaos.embedded.provider import down, ended, status, up, watched

            name = spec.name or name
            there = status(name) if spec.name else None
            kept = keep or (there is not None and there.state == "up")
            path = up(name, nodes=nodes, keep=kept)
            try:
                with watched(name, lambda why: abort(EnvironmentUnfit(why))):
                    cluster = Cluster(path, kind="embedded", name=name, owned=True)
                    cluster.gone = partial(ended, name)
                    cluster.transient = not kept
                    yield from _client(cluster)
            finally:
                if not kept:
                    down(name)
        case Kind.KIND:
            from chaos.cluster.commands import Shell

            options = kind_options or KindOptions(workers=nodes)
            failed: list[str] = []
            with kind_cluster(Shell(), spec.name, options, keep=keep, failed=failed) as path:
                yield from _client(
                    Cluster(path, context=f"kind-{spec.name}", kind="kind", name=spec.name, owned=True, failures=failed)
                )
        case Kind.K3D:
            from chaos.cluster.commands import Shell
            from chaos.cluster.k3d import PREFIX, k3d_cluster

            with k3d_cluster(Shell(), spec.name, kind_options or KindOptions(workers=nodes), keep=keep) as path:
                yield from _client(
                    Cluster(path, context=f"{PREFIX}{spec.name}", kind="k3d", name=spec.name, owned=True)
                )
        case Kind.CONTEXT:
            yield from _client(connect(spec.name, kubeconfig=kubeconfig, consent=consent or Consent()))
        case Kind.IN_CLUSTER:
            yield from _client(connect_to(spec, consent=consent or Consent()))


def delete_own(spec: ClusterSpec, *, run: str = "", dry_run: bool = False) -> list[str]:
    """Delete a cluster that we made, with whatever is left of it; return a line for each thing removed.

    Args:
        spec: of an embedded, kind or k3d cluster; an embedded one without a name is each that is dead.
        run: delete only the embedded cluster that this run started. Raises Misuse beside a name.
        dry_run: delete nothing, and return what would be.
    """
    from chaos.cluster import k3d, kind
    from chaos.cluster.commands import Shell

    if spec.kind is Kind.EMBEDDED:
        from chaos.embedded.provider import clean, detect_remains

        if run and spec.name:
            raise Misuse(f"--run {run} names its own embedded cluster, and --cluster {spec.name}: leave one out")
        name = f"sf-{run}" if run else spec.name or None  # as a run calls its cluster
        return detect_remains(name) if dry_run else clean(name)
    shell = Shell()
    if spec.kind is Kind.KIND:
        there = spec.name in kind.cluster_names(shell) if dry_run else kind.delete_cluster(shell, spec.name)
    else:
        there = spec.name in k3d.names(shell) if dry_run else k3d.delete_cluster(shell, spec.name)
    return [f"{spec.kind} cluster {spec.name}"] if there else []


def connect(context: str, *, kubeconfig: Path | None = None, consent: Consent) -> Cluster:
    """Return a guarded client of an existing cluster, once consent is complete and its version is supported."""
    facts = context_facts(context, kubeconfig)
    refuse_production(facts, consent)
    cluster = Cluster(merged_kubeconfig(kubeconfig_paths(kubeconfig)), context=context, kind="context", name=context)
    return _guarded(cluster, facts, consent)


def connect_to(spec: ClusterSpec, *, kubeconfig: Path | None = None, consent: Consent) -> Cluster:
    """`connect`, or from inside a pod by its service account."""
    if spec.kind is not Kind.IN_CLUSTER:
        return connect(spec.name, kubeconfig=kubeconfig, consent=consent)
    cluster = Cluster(None, kind="in-cluster", name="in-cluster")
    user = f"the account of pod {socket.gethostname()}"
    return _guarded(cluster, ContextFacts("in-cluster", "in-cluster", cluster.host, user, ACCOUNT), consent)


def _guarded(cluster: Cluster, facts: ContextFacts, consent: Consent) -> Cluster:
    try:
        refuse_too_old(parse_version(fetch_version(cluster)))
        refuse_production(facts, consent, [*list_readable(cluster, "Node"), *list_readable(cluster, "Namespace")])
    except BaseException:
        cluster.close()
        raise
    cluster.notices = tuple(plan_touched(facts, consent))
    cluster.guard = WriteGuard(lambda path: cluster.request("GET", path), listed=consent.namespaces)
    return cluster


def _client(cluster: Cluster) -> Iterator[Cluster]:
    try:
        yield cluster
    finally:
        cluster.close()
