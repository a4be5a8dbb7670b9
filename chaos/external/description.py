"""What a mesh looks like: its proxies, whom each serves, and which of them a request passes. Data, as our own modes
are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.errors import Misuse
from chaos.external.fields import Fields
from chaos.mesh import manifests
from chaos.model.modes import Balancing, Hop, Layer, PlacedBy, ProxyMode, Scope, Side
from chaos.resources import shipped

_KNOWN: Final = ("name", "stands-for", "status", "detect", "balancing", "proxies", "path", "loader")


@dataclass(frozen=True, slots=True)
class ProxyRule:
    """How one kind of proxy is found.

    Attributes:
        namespace: where its pods are; "" in the tenants' namespaces. Scope `pod`: the tenants' own pods.
        labels: of its pods; "*" is any value.
        optional: a mesh may be without any; then its hop falls away.
        serves_label: scope `namespace`: the namespace's label that names it, by the pod's label `named_by`.
    """

    name: str
    layers: frozenset[Layer]
    scope: Scope
    container: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False
    serves_label: str = ""
    named_by: str = ""

    @property
    def placed_by(self) -> PlacedBy:
        return {Scope.POD: PlacedBy.CONTAINER, Scope.NODE: PlacedBy.DAEMON_SET, Scope.NAMESPACE: PlacedBy.DEPLOYMENT}[
            self.scope
        ]


@dataclass(frozen=True, slots=True)
class LoaderRule:
    """What a loader's pod needs so that the mesh carries it as it carries the clients, and leaves its control port
    alone.

    Attributes:
        containers: of the client's pod, copied into the loader's with their volumes: for a mesh whose proxies were put
            there when the manifests were written, and not by a webhook.
        gates: readiness gates, of a mesh that says by one when it carries a pod.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MeshDescription:
    """A mesh."""

    name: str
    stands_for: str
    status: str  # whether it was ever seen alive
    balancing: Balancing
    rules: tuple[ProxyRule, ...]
    path: tuple[tuple[str, Side], ...]  # (rule's name, whose surroundings pick the instance), in order
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    namespace_annotations: Mapping[str, str] = field(default_factory=dict)
    pod_labels: tuple[str, ...] = ()
    daemonset_pods: Mapping[str, str] = field(default_factory=dict)
    loader: LoaderRule = LoaderRule()

    def rule(self, name: str) -> ProxyRule:
        return next(rule for rule in self.rules if rule.name == name)

    def mode(self, without: frozenset[str] = frozenset()) -> ProxyMode:
        """The mesh as a proxy mode, without the hops of rules that this installation has no proxy of."""
        used = [rule for rule in self.rules if rule.name not in without]
        scopes = {layer: rule.scope for rule in used for layer in rule.layers}
        hops = tuple(
            Hop(self.rule(name).scope, side, self.rule(name).layers) for name, side in self.path if name not in without
        )
        return ProxyMode(
            self.name,
            scopes.get(Layer.L4),
            scopes.get(Layer.L7),
            tuple(rule.placed_by for rule in used),
            hops,
            self.balancing,
            self.stands_for,
        )


def parse_description(value: Any, *, source: str, where: str = "") -> MeshDescription:
    """A description from a YAML mapping; raises one Misuse with every problem."""
    problems: list[str] = []
    top = Fields(value, where, problems, known=_KNOWN)
    detect = top.inside("detect", known=("namespace-labels", "namespace-annotations", "pod-labels", "daemonset-pods"))
    loader = top.inside("loader", known=("labels", "annotations", "containers", "readiness-gates"))
    rules = tuple(
        _rule(one, f"{where + '.' if where else ''}proxies[{i}]", problems)
        for i, one in enumerate(top.items("proxies", needed=True))
    )
    steps = []
    for i, text in enumerate(top.items("path", needed=True)):
        name, _, side = str(text).partition("@")
        if name not in {rule.name for rule in rules} or side not in list(Side):
            known = ", ".join(f"{rule.name}@{side}" for rule in rules for side in Side)
            top.wrong(f"path[{i}]", f"is {text!r}: known are {known}")
        else:
            steps.append((name, Side(side)))
    found = MeshDescription(
        name=top.text("name"),
        stands_for=top.text("stands-for", default="a mesh of yours"),
        status=top.text("status", default="described by you"),
        balancing=Balancing(
            top.text("balancing", default=Balancing.REQUEST.value, one_of=[one.value for one in Balancing])
        ),
        rules=rules,
        path=tuple(steps),
        namespace_labels=detect.texts("namespace-labels"),
        namespace_annotations=detect.texts("namespace-annotations"),
        pod_labels=tuple(map(str, detect.items("pod-labels"))),
        daemonset_pods=detect.texts("daemonset-pods"),
        loader=LoaderRule(
            loader.texts("labels"),
            loader.texts("annotations"),
            tuple(map(str, loader.items("containers"))),
            tuple(map(str, loader.items("readiness-gates"))),
        ),
    )
    if problems:
        raise Misuse(f"{source}: {'; '.join(problems)}")
    return found


def _rule(value: Any, where: str, problems: list[str]) -> ProxyRule:
    top = Fields(value, where, problems, known=("name", "layers", "scope", "container", "pods", "optional", "serves"))
    pods = top.inside("pods", known=("namespace", "labels"))
    serves = top.inside("serves", known=("namespace-label", "pod-label"))
    layers = [str(one) for one in top.items("layers", needed=True)]
    if unknown := [one for one in layers if one not in list(Layer)]:
        top.wrong("layers", f"has {', '.join(unknown)}: known are {', '.join(Layer)}")
    scope = Scope(top.text("scope", one_of=[one.value for one in Scope]))
    labels = pods.texts("labels")
    if scope is not Scope.POD and not labels:
        top.wrong("pods.labels", f"is missing: without it no pod of a {scope}'s proxy can be told from others")
    return ProxyRule(
        name=top.text("name"),
        layers=frozenset(Layer(one) for one in layers if one in list(Layer)),
        scope=scope,
        container=top.text("container"),
        namespace=pods.text("namespace", default=""),
        labels=labels,
        optional=top.values.get("optional") is True,
        serves_label=serves.text("namespace-label", default=""),
        named_by=serves.text("pod-label", default=""),
    )


NO_MESH: Final = MeshDescription("none", "no mesh", "nothing to describe", Balancing.CONNECTION, (), ())


def descriptions() -> dict[str, MeshDescription]:
    """The built-in ones by name."""
    found = {}
    for file in sorted((shipped("manifests") / "meshes").glob("*.yaml")):
        (document,) = manifests.read(file)
        found[file.stem] = parse_description(document, source=f"manifests/meshes/{file.name}")
    return found


def built_in(name: str) -> MeshDescription:
    """The built-in description of that name; raises Misuse naming all that exist."""
    known = descriptions()
    if name not in known:
        raise Misuse(f"unknown mesh {name!r}: known are {', '.join(known)}, auto, none, or a description of your own")
    return known[name]
