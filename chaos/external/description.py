"""Describes a mesh: its proxies, whom each carries, which of them a request passes, and how our pods are enrolled. Data
(manifests/meshes), as our own modes are: nothing branches on a mesh's name.

Every mesh is described in these words, the reference mesh too. `chaos.external.parsing` reads them,
`chaos.external.routes` says from them and from the live objects what each call passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from chaos.kube.ways import Way
from chaos.mesh.handle import LogSign, NewPod
from chaos.model.modes import Balancing, Hop, Layer, PlacedBy, ProxyMode, Scope, Side, balancing_of

Object = Mapping[str, Any]
# Ends of the names of modes that differ from another in what their proxies may use alone.
AS_INSTALLED: Final = "-as-installed"
AT_BUDGET: Final = "-at-budget"
ANY: Final = "*"  # of a label or an annotation: whatever its value
_PLACED: Final = {
    Scope.POD: PlacedBy.CONTAINER,
    Scope.NODE: PlacedBy.DAEMON_SET,
    Scope.NAMESPACE: PlacedBy.DEPLOYMENT,
    Scope.WAYPOINT: PlacedBy.DEPLOYMENT,
}


class Feature(StrEnum):
    """What a mesh's own objects ask for, and a check shows."""

    IDENTITY_POLICY = "identity-policy"  # who may connect
    REQUEST_POLICY = "request-policy"  # who may ask for what
    TIMEOUTS = "timeouts"
    RETRIES = "retries"


def labels_of(obj: Object) -> Mapping[str, str]:
    """An object's labels; none when it has none."""
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, str]:
    """An object's annotations; none when it has none."""
    return (obj.get("metadata") or {}).get("annotations") or {}


@dataclass(frozen=True, slots=True)
class Marks:
    """Labels and annotations; a value of `*` is any."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.labels or self.annotations)

    def found(self, obj: Object) -> list[str]:
        """Return those that the object has, as `label k=v`."""
        return self._split(obj)[0]

    def missing(self, obj: Object) -> list[str]:
        """Return those that the object lacks."""
        return self._split(obj)[1]

    def _split(self, obj: Object) -> tuple[list[str], list[str]]:
        found: list[str] = []
        missing: list[str] = []
        for word, wanted, there in (
            ("label", self.labels, labels_of(obj)),
            ("annotation", self.annotations, annotations_of(obj)),
        ):
            for key, value in wanted.items():
                has = key in there and value in (ANY, there[key])
                shown = there[key] if has else value
                (found if has else missing).append(f"{word} {key}" + ("" if shown == ANY else f"={shown}"))
        return found, missing


@dataclass(frozen=True, slots=True)
class Skips:
    """How a pod keeps some of its traffic out of a proxy.

    Attributes:
        ports: annotations with the ports (`80,8000-8100`) that pass it by; of the side in the key.
        only: annotations with the ports that do not, all others do (`*`: all are carried).
        whole: marks of a pod of that side whose traffic all passes it by.
    """

    ports: Mapping[Side, tuple[str, ...]] = field(default_factory=dict)
    only: Mapping[Side, tuple[str, ...]] = field(default_factory=dict)
    whole: Mapping[Side, Marks] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """How calls are bound to a waypoint (scope `waypoint`).

    Attributes:
        label: of the Service that is called (of the pod, for calls to pod addresses), else of its namespace: the
            waypoint's name. `none` there: no waypoint.
        namespace_label: beside it: the waypoint's namespace. Without it: their own.
        kind_label: of the waypoint's pods: what it carries (service, workload, all, none); "" and missing: services.
        condition: of the Service: True, and names the waypoint in its message. It is believed.
        named_by: label of the waypoint's pods: its name.
        clients: names of the rules by which a client must be carried for its calls to pass the waypoint; none: any.
        ingress_label: of the Service, else of its namespace: `true` where calls of gateways may pass the waypoint too.
    """

    label: str
    named_by: str
    namespace_label: str = ""
    kind_label: str = ""
    condition: str = ""
    clients: tuple[str, ...] = ()
    ingress_label: str = ""


@dataclass(frozen=True, slots=True)
class Protocols:
    """What a mesh takes for bytes, so that it reads no requests there, and spreads connections alone.

    Attributes:
        bytes, requests: values of a Service port's appProtocol; of what is neither, the rest decides.
        by_name: the port's name, or its beginning (`tcp`, `tcp-db`), says the same where it has no appProtocol.
        ports: annotation with ports of bytes, of the Service, or of the pod whose own address is dialled.
        usual: the ports of bytes where nothing says otherwise.
    """

    bytes: frozenset[str] = frozenset()
    requests: frozenset[str] = frozenset()
    by_name: bool = False
    ports: str = ""
    usual: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Read:
    """How to read one page of a proxy: its statistics, its configuration, its certificates.

    Attributes:
        way: by which its port is reached (on the pod's loop-back: by a port-forward alone), or `exec`: a command in the
            proxy's container prints it.
        format: of what is read, by the names in `chaos.external.views`.
        counts: of statistics: the counters that rise with what passes the proxy.
    """

    way: Way
    port: int = 0
    path: str = "/"
    command: tuple[str, ...] = ()
    format: str = ""
    counts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProxyRule:
    """How one kind of proxy is found.

    Attributes:
        namespace: where its pods are; "" in any. Scope `pod`: the tenants' own pods.
        labels: of its pods; "*" is any value.
        owner: scope `pod`, of a proxy that stands apart: its pod is owned by the application's.
        optional: a mesh may be without any in a place; then the hop falls away there.
        carries: marks of a pod that it carries; none: scope `pod`: that has its container; scope `node`: every pod.
        carries_in: marks of the namespaces whose pods it carries; none: any.
        assumes: what is taken for granted where it stands on a path, because no object that is read says it.
        newest: of several ready ones at a place, the newest takes all new connections.
        version_by: annotation of an application's pod that names the proxy's image or version.
        held_by: command of the mesh that limits it to ${cpu} millicores.
        limit_by: variable of its container's environment that holds how many cores it can use, where no limit says so.
        reads: name of a page -> where it is read.
    """

    name: str
    layers: frozenset[Layer]
    scope: Scope
    container: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: bool = False
    optional: bool = False
    carries: Marks = Marks()
    carries_in: Marks = Marks()
    assumes: str = ""
    skips: Skips = Skips()
    binding: Binding | None = None
    newest: bool = False
    version_by: str = ""
    limit_by: str = ""
    held_by: str = ""
    ports: tuple[int, ...] = ()
    reads: Mapping[str, Read] = field(default_factory=dict)
    placed: PlacedBy | None = None

    @property
    def in_pod(self) -> bool:
        """Whether it is a container of the application's own pod."""
        return self.scope is Scope.POD and not self.owner

    @property
    def placed_by(self) -> PlacedBy:
        return self.placed or (PlacedBy.DEPLOYMENT if self.owner else _PLACED[self.scope])


@dataclass(frozen=True, slots=True)
class UnmodelledMark:
    """A mark whose meaning is not modelled: an object that has it makes a prediction impossible.

    Attributes:
        kind: of the object that carries it: Pod, Service or Namespace.
        value: with which it counts; `*`: any, "!x": any but x.
        side: of the pod: client, server or "" for both.
    """

    kind: str
    key: str
    why: str
    value: str = ANY
    side: str = ""


@dataclass(frozen=True, slots=True)
class LoaderRule:
    """What a loader's pod needs so that the mesh carries it as it carries the clients, and leaves its control port
    alone.

    Attributes:
        containers: of the client's pod, copied into the loader's with their volumes: for a mesh whose proxies were put
            there when the manifests were written, and not by a webhook.
        gates: readiness gates, of a mesh that says by one when it carries a pod.
        copied: labels and annotations of the client's live pod that decide how it is carried, and so are the loader's
            too; a name that ends in `*` is a beginning. not_copied: of those, what the mesh writes by itself.
        ports: annotation, a list of ports that pass the proxy by: the control port is added to what it holds.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    not_copied: tuple[str, ...] = ()
    ports: str = ""


@dataclass(frozen=True, slots=True)
class ControlPlanePart:
    """A workload of the mesh's control plane.

    Attributes:
        labels: of the Deployment; in any namespace.
    """

    name: str
    labels: Mapping[str, str]
    role: str = ""


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """A definition of kinds that the mesh builds on and does not bring.

    Attributes:
        definition: name of the CustomResourceDefinition by which it is seen to be there.
        install, uninstall: the commands, each a list of words.
    """

    definition: str
    install: tuple[tuple[str, ...], ...]
    uninstall: tuple[tuple[str, ...], ...] = ()

    @property
    def command(self) -> str:
        """The official command, in one line."""
        return " && ".join(" ".join(words) for words in self.install)


@dataclass(frozen=True, slots=True)
class Installation:
    """How to see that the mesh is installed and in which version, and the command that installs it.

    Attributes:
        version_label: of the control plane's Deployments, which a development build fills with a placeholder;
            version_read: (port, path) of the first part's pods that answer with it.
        command: the official one; docs: the page that says it.
        cli: the program on PATH that `install` and `uninstall` call, on clusters of our own alone.
        needs: what has to be in the cluster before.
    """

    parts: tuple[ControlPlanePart, ...] = ()
    version_label: str = ""
    version_read: tuple[int, str] | None = None
    command: str = ""
    docs: str = ""
    cli: str = ""
    install: tuple[tuple[str, ...], ...] = ()
    uninstall: tuple[tuple[str, ...], ...] = ()
    needs: tuple[Prerequisite, ...] = ()

    @property
    def whole_command(self) -> str:
        """The official commands in one line, those of what it needs first."""
        return " && ".join([*(one.command for one in self.needs), self.command])


@dataclass(frozen=True, slots=True)
class Enrolment:
    """How our tenants are enrolled in the mesh, and the mesh's own signs of it.

    Attributes:
        namespaces, pods, services: labels and annotations that they get.
        objects: file under manifests/meshes with what each tenant's namespace gets besides; "" none.
        carried: marks of a pod that is carried.
        service_conditions: of the tenants' Services; object_conditions: of the objects: what has to be True.
        budget: annotations of a pod that limit its proxy, with ${cpu} and ${memory} in them.
        objects_unheld: file in the place of `objects` that leaves their proxies what the mesh gives them; "": they have
            none, or it is the same.
    """

    namespaces: Marks = Marks()
    pods: Marks = Marks()
    services: Marks = Marks()
    objects: str = ""
    carried: Marks = Marks()
    service_conditions: tuple[str, ...] = ()
    object_conditions: Mapping[str, str] = field(default_factory=dict)
    budget: Mapping[str, str] = field(default_factory=dict)
    objects_unheld: str = ""


@dataclass(frozen=True, slots=True)
class Reconfiguration:
    """How the proxies of a tenant's calls are given another configuration, which changes nothing that is asked of them.

    Attributes:
        objects: file under manifests/meshes/objects, applied for each tenant and taken away again.
        hop: (rule's name, side) of the proxies that take it.
        page: that they have it is seen by the objects' name on this page of theirs.
    """

    objects: str
    hop: tuple[str, Side]
    page: str


@dataclass(frozen=True, slots=True)
class ModeRule:
    """A mode that the mesh offers: a row of the table of modes, and how tenants of ours get into it.

    Attributes:
        placed: of rules whose proxies get there otherwise in this mode than in general.
        drains: seconds for which its proxies still take new calls when they are told to end.
        without: name of a part of the control plane -> what becomes of a new pod while that part is away.
        features: a feature of the mesh -> file under manifests/meshes/objects with the mesh's own objects that ask for
            it, for a tenant's servers.
        holds_shared: proxies that serve others too get their share of the budget, on clusters of ours.
        reconfiguration: None: how its proxies are configured is not said.
    """

    name: str
    path: tuple[tuple[str, Side], ...]
    stands_for: str = ""
    placed: Mapping[str, PlacedBy] = field(default_factory=dict)
    starts_first: bool = False
    drains: float = 0.0
    without: Mapping[str, NewPod] = field(default_factory=dict)
    features: Mapping[Feature, str] = field(default_factory=dict)
    holds_shared: bool = False
    reconfiguration: Reconfiguration | None = None
    enrolment: Enrolment = Enrolment()

    def columns(self, rules: Sequence[ProxyRule]) -> tuple[ModeRule, ...]:
        """The mode, in which our tenants' own proxies are held to the budget of the reference modes by the mesh's own
        values; where it has such values, the mode with all proxies as they are installed; and where it has proxies that
        others share, the mode with these held too.
        """
        own, shares = self.enrolment, {rule.name for rule in rules if rule.scope is Scope.NODE}
        found = [self]
        if own.budget or own.objects_unheld:
            free = replace(own, budget={}, objects=own.objects_unheld or own.objects, objects_unheld="")
            found.append(self._column(AS_INSTALLED, "proxies with what the mesh gives them", enrolment=free))
        if shares & {name for name, _ in self.path}:
            found.append(self._column(AT_BUDGET, "every proxy with its share of the budget", holds_shared=True))
        return tuple(found)

    def _column(self, end: str, what: str, **changes: Any) -> ModeRule:
        return replace(self, name=f"{self.name}{end}", stands_for=f"{self.stands_for}; {what}", **changes)


@dataclass(frozen=True, slots=True)
class MeshDescription:
    """A mesh."""

    name: str
    stands_for: str
    status: str  # whether it was ever seen alive
    rules: tuple[ProxyRule, ...]
    path: tuple[tuple[str, Side], ...]  # (rule's name, whose surroundings pick the instance), in order
    balancing: Balancing | None = None  # None: as the hops of each path say
    namespaces: Marks = Marks()  # how it is told from other meshes: marks of the tenants' namespaces,
    pods: Marks = Marks()  # of their pods,
    daemons: Mapping[str, str] = field(default_factory=dict)  # and labels of a DaemonSet's pods, anywhere
    protocols: Protocols = Protocols()
    loader: LoaderRule = LoaderRule()
    refusals: tuple[UnmodelledMark, ...] = ()
    modes: tuple[ModeRule, ...] = ()
    installation: Installation = Installation()
    reply_headers: tuple[str, ...] = ()  # of an answer that one of its proxies made or passed on
    log_signs: tuple[LogSign, ...] = ()  # what lines of its proxies' logs mean

    @property
    def ours(self) -> bool:
        """Whether it is the reference mesh: it is deployed with its mode, and so there is no installation of it."""
        return not self.installation.parts

    def rule(self, name: str) -> ProxyRule:
        return next(rule for rule in self.rules if rule.name == name)

    def mode(self, without: frozenset[str] = frozenset()) -> ProxyMode:
        """The mesh as a proxy mode, without the hops of rules that this installation has no proxy of."""
        return self._row(self.name, tuple(step for step in self.path if step[0] not in without), self.stands_for)

    def mode_row(self, rule: ModeRule) -> ProxyMode:
        """A mode that it offers, as a row of the table of modes."""
        return self._row(
            rule.name,
            rule.path,
            rule.stands_for or self.stands_for,
            placed=rule.placed,
            starts_first=rule.starts_first,
            drains=rule.drains,
        )

    def _row(
        self,
        name: str,
        path: tuple[tuple[str, Side], ...],
        stands_for: str,
        *,
        placed: Mapping[str, PlacedBy] | None = None,
        starts_first: bool = False,
        drains: float = 0.0,
    ) -> ProxyMode:
        used = [self.rule(name) for name in dict.fromkeys(name for name, _ in path)]
        scopes: dict[Layer, Scope] = {}
        for rule in used:
            scopes |= {layer: rule.scope for layer in rule.layers if layer not in scopes}
        hops = tuple(Hop(self.rule(name).scope, side, self.rule(name).layers) for name, side in path)
        return ProxyMode(
            name,
            scopes.get(Layer.L4),
            scopes.get(Layer.L7),
            tuple((placed or {}).get(rule.name, rule.placed_by) for rule in used),
            hops,
            self.balancing or balancing_of(hops),
            stands_for,
            starts_first,
            "" if self.ours else self.name,
            drains,
        )


NO_MESH: Final = MeshDescription("none", "no mesh", "nothing to describe", (), ())
