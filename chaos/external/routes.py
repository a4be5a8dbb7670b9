"""Derives what each call passes: a mesh's description applied to the live pods, Services and namespaces. Pure.

A path belongs to a call. Whether a hop of the description stands on it is read, never assumed: a pod is carried or is
not; a Service, a pod or a namespace names a waypoint, or says that there is none; ports and pods can be taken past a
proxy. Each hop that stands, and each that does not, says why; what is not modelled raises Misuse that names the object
and its label, for a hop that fell away in silence would be a wrong prediction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.errors import Misuse
from chaos.external.description import ANY, Binding, MeshDescription, ProxyRule, annotations_of, labels_of
from chaos.external.reaching import Reached, server_port
from chaos.kube.objects import container, controller, workload_name
from chaos.model.modes import Balancing, Hop, Route, Side, balancing_of
from chaos.model.placement import Place

Object = Mapping[str, Any]
NONE: Final = "none"  # of a label that names a waypoint: there is to be none
SERVICES, WORKLOADS, ALL = "service", "workload", "all"  # what a waypoint carries
# The first `namespace/name` of a condition's message, which may go on: "... waypoint shop/w. Ingress traffic will ...".
_NAMED: Final = re.compile(r"(?<![-\w./])([a-z0-9][-a-z0-9]*/[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)(?![-\w/])")


@dataclass(frozen=True, slots=True)
class RouteContext:
    """The live objects beside the two pods of a call.

    Attributes:
        namespaces: by name. instances: by (rule's name, key), the pods of proxies that stand apart, ready or not.
    """

    namespaces: Mapping[str, Object] = field(default_factory=dict)
    instances: Mapping[tuple[str, str], Sequence[Object]] = field(default_factory=dict)

    def namespace(self, name: str) -> Object:
        return self.namespaces.get(name, {"metadata": {"name": name}})


def name_of(obj: Object, kind: str = "Pod") -> str:
    """`kind namespace/name`, for people."""
    meta = obj["metadata"]
    return (
        f"{obj.get('kind', kind)} {meta['namespace']}/{meta['name']}"
        if "namespace" in meta
        else f"{kind} {meta['name']}"
    )


def plan_route(
    mesh: MeshDescription, client: Object, server: Object, reached: Reached, around: RouteContext, *, by_request: bool
) -> Route:
    """Return what requests of the client's pod pass on their way to the server's.

    Args:
        reached: how the server is addressed.
        by_request: each request finds its server anew; kept connections are spread whole, whatever stands in between.

    Raises Misuse for what is not modelled.
    """
    _refuse_unmodelled(mesh, client, server, reached, around)
    hops: list[Hop] = []
    because: list[str] = []
    for name, side in mesh.path:
        rule = mesh.rule(name)
        end = client if side is Side.CLIENT else server
        if rule.binding is not None:
            key, why = waypoint_of(rule, mesh, client, server, reached, around)
            because.append(f"{name}: {why}")
            if key:
                hops.append(Hop(rule.scope, side, rule.layers, key))
            continue
        why = why_not_carried(rule, end, around) or why_bypassed(rule, side, end, _port_at(side, server, reached))
        because += [f"{name}@{side}: {why or rule.assumes}"] if why or rule.assumes else []
        if not why:
            hops.append(Hop(rule.scope, side, rule.layers))
    balancing = (mesh.balancing or balancing_of(hops)) if by_request else Balancing.CONNECTION
    return Route(tuple(hops), balancing, tuple(because))


def plan_kinds(mesh: MeshDescription, pods: Mapping[str, Object], around: RouteContext) -> dict[str, str]:
    """Return, by UID, the UID of the first pod of the same workload of which `plan_route` reads the same: its routes
    are the pod's own.
    """
    marks = _marks_read(mesh)
    first: dict[Any, str] = {}
    return {uid: first.setdefault(_read_of(mesh, pod, marks, around), uid) for uid, pod in pods.items()}


def _marks_read(mesh: MeshDescription) -> frozenset[str]:
    """The labels and annotations of pods that a description looks at."""
    found = {refusal.key for refusal in mesh.refusals}
    for rule in mesh.rules:
        for marks in (rule.carries, *rule.skips.whole.values()):
            found |= {*marks.labels, *marks.annotations}
        for sources in (*rule.skips.ports.values(), *rule.skips.only.values()):
            found |= set(sources)
        if rule.binding is not None:
            found |= {rule.binding.label, rule.binding.namespace_label}
    return frozenset(found)


def _read_of(mesh: MeshDescription, pod: Object, marks: frozenset[str], around: RouteContext) -> Any:
    """What `plan_route` reads of a pod, to be compared."""
    spec, owner = pod["spec"], controller(pod)
    return (
        pod["metadata"]["namespace"],
        workload_name(pod),
        owner["kind"] if owner else "",
        *(
            frozenset((key, value) for key, value in of(pod).items() if key in marks)
            for of in (labels_of, annotations_of)
        ),
        tuple(
            (one["name"], one.get("restartPolicy"), tuple(map(str, one.get("args") or ())), _ports_of(one))
            for one in (*(spec.get("initContainers") or ()), *spec["containers"])
        ),
        tuple(
            bool(around.instances.get((rule.name, place_key(rule, pod))))
            for rule in mesh.rules
            if rule.optional and rule.binding is None
        ),
    )


def _ports_of(one: Object) -> tuple[tuple[str, int], ...]:
    return tuple((port.get("name", ""), port["containerPort"]) for port in one.get("ports") or ())


def carriers(mesh: MeshDescription, pod: Object, around: RouteContext) -> list[ProxyRule]:
    """Return the rules whose proxies carry the pod by itself: those of pods and nodes, not those that calls are bound
    to.
    """
    return [rule for rule in mesh.rules if rule.binding is None and not why_not_carried(rule, pod, around)]


def why_not_carried(rule: ProxyRule, pod: Object, around: RouteContext) -> str:
    """Return why no proxy of that rule carries the pod; "" when one does."""
    if missing := rule.carries.missing(pod):
        return f"{name_of(pod)} has no {', no '.join(missing)}"
    space = around.namespace(pod["metadata"]["namespace"])
    if missing := rule.carries_in.missing(space):
        return f"{name_of(space, 'Namespace')} has no {', no '.join(missing)}"
    if rule.in_pod:
        return "" if running_beside(pod, rule.container) else f"{name_of(pod)} has no container {rule.container}"
    key = place_key(rule, pod)
    if rule.optional and not around.instances.get((rule.name, key)):
        return f"there is no {rule.name} for {key}"
    return ""


def place_key(rule: ProxyRule, pod: Object) -> str:
    """Return the key of a proxy of that rule that serves the pod: its UID, node or namespace."""
    meta = pod["metadata"]
    return rule.scope.key_of(Place(meta["uid"], pod["spec"].get("nodeName", ""), meta["namespace"]))


def running_beside(pod: Object, name: str) -> Object | None:
    """A container that runs beside the others: an ordinary one, or an init container that stays."""
    spec = pod["spec"]
    stays = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    return next((one for one in [*spec["containers"], *stays] if one["name"] == name), None)


# ---- what is taken past a proxy


def _port_at(side: Side, server: Object, reached: Reached) -> int | None:
    """The port that a proxy on that side sees: the dialled one at the client, the container's at the server."""
    return reached.port if side is Side.CLIENT else server_port(reached, server)


def why_bypassed(rule: ProxyRule, side: Side, pod: Object, port: int | None) -> str:
    """Return why traffic to that port bypasses a proxy that carries the pod; "" when it does not.

    Raises Misuse where ports are taken past it and the call's is not known.
    """
    whole = rule.skips.whole.get(side)
    if whole and (found := whole.found(pod)):
        return f"{name_of(pod)} has {', '.join(found)}"
    for source in rule.skips.ports.get(side, ()):
        if (text := ports_text(pod, source)) and named_in(text, port, pod, source):
            return f"{name_of(pod)} has {source}={text}"
    for source in rule.skips.only.get(side, ()):
        text = ports_text(pod, source)
        if text is not None and text != ANY and not named_in(text, port, pod, source):
            return f"{name_of(pod)} has {source}={text!r}, and port {port} is not among them"
    return ""


def ports_text(pod: Object, source: str) -> str | None:
    """What an annotation, or a flag of a container (`container --flag`), holds; None without one."""
    name, _, flag = source.partition(" ")
    if not flag:
        return annotations_of(pod).get(name)
    arguments = [str(word) for word in container(pod, name).get("args") or []]
    return arguments[arguments.index(flag) + 1] if flag in arguments[:-1] else None


def named_in(text: str, port: int | None, pod: Object, source: str) -> bool:
    """Whether a list of ports (`80,8000-8100`) names the port. Raises Misuse for what is no such list."""
    if not text.strip():
        return False
    ranges = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if text == ANY:
            low, high = "1", "65535"
        elif not low.isdigit() or (dash and not high.isdigit()):
            raise Misuse(f"{name_of(pod)}: {source}={text!r} is no list of ports")
        ranges.append((int(low), int(high or low)))
    if port is None:
        if source.partition(" ")[2]:  # a default of the installation, which names no application's port
            return False
        raise Misuse(
            f"{name_of(pod)} has {source}={text}: which traffic passes the proxy is a matter of its port, and the call "
            "says none: give it `reach: HOST:PORT`"
        )
    return any(low <= port <= high for low, high in ranges)


# ---- waypoints


def waypoint_of(
    rule: ProxyRule, mesh: MeshDescription, client: Object, server: Object, reached: Reached, around: RouteContext
) -> tuple[str, str]:
    """(key of the waypoint that the call passes, why); the key is "" when it passes none.

    As Istio resolves it (istio/istio, pilot/pkg/serviceregistry/ambient/waypoints.go): the Service's own label, else
    its namespace's; the waypoint's namespace in the label beside it, else their own; and only a waypoint that takes
    what is addressed. Raises Misuse where the objects contradict each other.
    """
    binding = rule.binding
    assert binding is not None
    if binding.clients:
        carried = {one.name for one in carriers(mesh, client, around)}
        if not carried & set(binding.clients):
            _refuse_ingress(binding, mesh, client, reached, around)
            return "", f"{name_of(client)} is not carried by {' or '.join(binding.clients)}: its calls pass none"
    if reached.by_pod or reached.service is None:
        return _of_pod(rule, binding, server, reached, around)
    return _of_service(rule, binding, reached.service, around)


def _refuse_ingress(
    binding: Binding, mesh: MeshDescription, client: Object, reached: Reached, around: RouteContext
) -> None:
    """Raise Misuse for a gateway's call that may pass the waypoint: by a setting of the installation, which no object
    of the call says.
    """
    proxies = {rule.container for rule in mesh.rules if rule.in_pod}
    if not binding.ingress_label or not {one["name"] for one in client["spec"]["containers"]} <= proxies:
        return
    service = reached.service
    if service is None:
        return
    space = around.namespace(service["metadata"]["namespace"])
    for obj, kind in ((service, "Service"), (space, "Namespace")):
        said = labels_of(obj).get(binding.ingress_label)
        if said == "true":
            raise Misuse(
                f"{name_of(obj, kind)} has {binding.ingress_label}=true, and {name_of(client)} is a gateway: whether "
                "its calls pass the waypoint is a matter of the installation (ENABLE_INGRESS_WAYPOINT_ROUTING): leave "
                "the call out"
            )
        if said is not None:
            return


def _of_service(rule: ProxyRule, binding: Binding, service: Object, around: RouteContext) -> tuple[str, str]:
    name = name_of(service, "Service")
    key, said = _labelled(binding, service, "Service", around)
    bound, refused = _condition(binding, service)
    if bound:
        return _existing(rule, bound, around, f"{name}: condition {binding.condition}", kinds=None)
    if not key:
        return "", said or f"neither {name} nor its namespace has label {binding.label}"
    if refused:
        return "", f"{said}, and condition {binding.condition} says: {refused}"
    return _existing(rule, key, around, said, kinds=(SERVICES, ALL))


def _of_pod(
    rule: ProxyRule, binding: Binding, server: Object, reached: Reached, around: RouteContext
) -> tuple[str, str]:
    key, said = _labelled(binding, server, "Pod", around)
    if not key:
        return "", said or f"neither {name_of(server)} nor its namespace has label {binding.label}"
    if not reached.by_pod:
        raise Misuse(
            f"{said}: whether a call passes that waypoint depends on how {name_of(server)} is addressed, and "
            f"{reached.why}: give the call `reach: SERVICE.NAMESPACE:PORT`"
        )
    return _existing(rule, key, around, said, kinds=(WORKLOADS, ALL))


def _labelled(binding: Binding, obj: Object, kind: str, around: RouteContext) -> tuple[str, str]:
    """(the waypoint's key by labels, by which); "" for none."""
    namespace = obj["metadata"]["namespace"]
    for source, word in ((obj, kind), (around.namespace(namespace), "Namespace")):
        name = labels_of(source).get(binding.label)
        if name is None:
            continue
        said = f"{name_of(source, word)} has {binding.label}={name}"
        if name in ("", NONE):  # an empty name is asked for, and not found: its namespace's is not taken instead
            return "", said
        where = labels_of(source).get(binding.namespace_label, "") if binding.namespace_label else ""
        return f"{where or namespace}/{name}", said + (f", {binding.namespace_label}={where}" if where else "")
    return "", ""


def _condition(binding: Binding, service: Object) -> tuple[str, str]:
    """(the waypoint that the Service's condition names, what it says against one)."""
    found = (service.get("status") or {}).get("conditions") or []
    one = next((one for one in found if one["type"] == binding.condition), None) if binding.condition else None
    if one is None:
        return "", ""
    message = str(one.get("message", ""))
    if one["status"] != "True":
        return "", f"{one.get('reason', '')} {message}".strip() or "no reason"
    if (named := _NAMED.search(message)) is None:
        raise Misuse(
            f"{name_of(service, 'Service')}: condition {binding.condition} is True, and its message names no waypoint: "
            f"{message!r}"
        )
    return named[1], ""


def _existing(
    rule: ProxyRule, key: str, around: RouteContext, said: str, *, kinds: tuple[str, ...] | None
) -> tuple[str, str]:
    """The waypoint of that key, unless it takes other kinds of traffic. Raises Misuse when it has no pod."""
    binding = rule.binding
    assert binding is not None
    pods = around.instances.get((rule.name, key), ())
    if not pods:
        raise Misuse(
            f"{said} names {key}, and namespace {key.partition('/')[0]} has no pod with label "
            f"{binding.named_by}={key.partition('/')[2]}: is it there, and may you list its pods?"
        )
    if kinds is not None and binding.kind_label:
        takes = {labels_of(pod).get(binding.kind_label) or SERVICES for pod in pods}
        if not takes & set(kinds):
            return "", f"{said}, and {key} has {binding.kind_label}={', '.join(sorted(takes))}"
    return key, f"{said}: {key}"


# ---- what is not modelled


def _refuse_unmodelled(
    mesh: MeshDescription, client: Object, server: Object, reached: Reached, around: RouteContext
) -> None:
    seen: list[tuple[str, str, Object]] = [("Pod", Side.CLIENT, client), ("Pod", Side.SERVER, server)]
    if reached.service is not None:
        seen.append(("Service", Side.SERVER, reached.service))
    seen += [
        ("Namespace", side, around.namespace(pod["metadata"]["namespace"]))
        for side, pod in ((Side.CLIENT, client), (Side.SERVER, server))
    ]
    problems = list(dict.fromkeys(_unmodelled(mesh, seen)))
    if problems:
        raise Misuse(f"{'; '.join(problems)}: not modelled, so whom a death hurts cannot be said: leave the call out")


def _unmodelled(mesh: MeshDescription, seen: Iterable[tuple[str, str, Object]]) -> Iterable[str]:
    for refusal in mesh.refusals:
        for kind, side, obj in seen:
            value = labels_of(obj).get(refusal.key, annotations_of(obj).get(refusal.key))
            if kind != refusal.kind or refusal.side not in ("", side) or value is None:
                continue
            counts = value != refusal.value[1:] if refusal.value.startswith("!") else refusal.value in (ANY, value)
            if counts:
                yield f"{name_of(obj, kind)} has {refusal.key}={value} ({refusal.why})"
