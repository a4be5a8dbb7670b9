"""A world from saved objects: what `kubectl get pods,nodes,services,endpointslices,namespaces -A -o json` printed. No
cluster is needed.

The objects are read by the same code as live ones: our own mesh's pods by `chaos.kube.placement`, everybody else's by
`chaos.external.placement`, with a target file or, without one, with the calls that could be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaos.documents import read_bytes, shown, text_of, understood
from chaos.errors import Misuse
from chaos.external.description import ANY, NO_MESH, MeshDescription, ProxyRule, labels_of
from chaos.external.detection import detect_mesh, why_it_is
from chaos.external.file import Call, TargetSystem
from chaos.external.parsing import descriptions
from chaos.external.placement import Site, plan_placement
from chaos.external.reaching import selects
from chaos.kube.objects import is_live, workload_name
from chaos.kube.placement import plan_placement as plan_own_placement
from chaos.mesh.modes import mode_named
from chaos.model.placement import Placement
from chaos.names import LABEL_MODE, LABEL_RUN, SYSTEM_NAMESPACE
from chaos.prediction.world import World, make_world

Object = Mapping[str, Any]
COMMAND: Final = "kubectl get pods,nodes,services,endpointslices,namespaces -A -o json"
MOST_BYTES: Final = 1 << 30  # 10,000 pods of a mesh with sidecars are about 150 MB
_READ: Final = ("Pod", "Node", "Service", "EndpointSlice", "Namespace")
_SERVICE_NAME: Final = "kubernetes.io/service-name"  # label of an EndpointSlice
_OF_THE_CLUSTER: Final = ("kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE)


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one moment, by kind.

    Attributes:
        source: where they come from, for people.
    """

    source: str
    by_kind: Mapping[str, Sequence[Object]] = field(default_factory=dict)

    def of(self, kind: str) -> Sequence[Object]:
        return self.by_kind.get(kind, ())

    @property
    def site(self) -> Site:
        return Site(self.of("Namespace"), self.of("Pod"), self.of("Service"))


def read_objects(files: Sequence[Path]) -> Objects:
    """Read files of objects, `-` for standard input. An object that is in several counts once.

    Raises Misuse for what is no JSON, no list of objects, or has no pods.
    """
    found: dict[str, dict[tuple[str, str], Object]] = {}
    for file in files:
        source = "standard input" if str(file) == "-" else shown(file)
        text = sys.stdin.read() if str(file) == "-" else text_of(read_bytes(file, most=MOST_BYTES), source=source)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            said = " ".join(str(error).split())[:200]
            raise Misuse(f"{source}: not JSON: {said}. Write it by `{COMMAND}`") from error
        for obj in _items(document, source):
            meta = obj["metadata"]
            found.setdefault(obj["kind"], {})[meta.get("namespace", ""), meta["name"]] = obj
    name = ", ".join("standard input" if str(file) == "-" else shown(file) for file in files)
    objects = Objects(name, {kind: list(of.values()) for kind, of in found.items()})
    if not objects.of("Pod"):
        raise Misuse(f"{name}: holds no pods: write it by `{COMMAND}`")
    return objects


def _items(document: Any, source: str) -> list[Object]:
    """The objects of a list, or of a document that is one; only of the kinds that are looked at."""
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str):
        raise Misuse(f"{source}: neither an object of Kubernetes nor a list of them: write it by `{COMMAND}`")
    if not kind.endswith("List"):
        items, default = [document], kind
    else:
        items, default = document.get("items"), kind.removesuffix("List")
    if not isinstance(items, list):
        raise Misuse(f"{source}: a {kind} without a list of items: write it by `{COMMAND}`")
    found = []
    for number, one in enumerate(items):
        if not isinstance(one, dict):
            raise Misuse(f"{source}: items[{number}] is no object")
        known = one.get("kind", default)
        if known in _READ:
            found.append(_whole({**one, "kind": known}, f"{source}: items[{number}]"))
    return found


def _whole(obj: dict[str, Any], where: str) -> Object:
    """Return the object, with a UID where it lacks one. Raises Misuse for one that cannot be used."""
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        raise Misuse(f"{where}: a {obj['kind']} without a name")
    if obj["kind"] != "Pod":
        return obj
    name = f"{meta.get('namespace', 'default')}/{meta['name']}"
    spec = obj.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("containers"), list):
        raise Misuse(f"{where}: pod {name} has no spec.containers: a table of pods does not say what they are made of")
    return {**obj, "metadata": {"namespace": "default", "uid": name, **meta}}


def world_of(objects: Objects, target: TargetSystem | None, *, run: str = "") -> World:
    """Make the world of saved objects.

    Args:
        target: None: our own mesh where its pods are, else the calls that could be.
        run: which of several runs of our own.
    """
    with understood(objects.source):
        if target is not None:
            placement, mesh, caveats = _of_target(objects, target)
        elif runs := _runs(objects.of("Pod")):
            placement, mesh, caveats = _of_run(objects, runs, run)
        else:
            guessed, said = guess_target(objects)
            placement, mesh, caveats = _of_target(objects, guessed)
            caveats = [*said, *caveats]
        if not objects.of("Node"):
            caveats = [*caveats, "no nodes were saved: there are no zones, and nodes without pods are not known"]
        return make_world(placement, objects.of("Node"), source=objects.source, mesh=mesh, caveats=caveats)


def _runs(pods: Iterable[Object]) -> dict[str, set[str]]:
    """The runs of our own mesh whose pods are there, each with the modes that its pods name."""
    found: dict[str, set[str]] = {}
    for pod in pods:
        labels = labels_of(pod)
        if labels.get(LABEL_RUN) and is_live(pod):
            found.setdefault(labels[LABEL_RUN], set()).update({labels[LABEL_MODE]} if labels.get(LABEL_MODE) else ())
    return found


def _of_run(objects: Objects, runs: Mapping[str, set[str]], run: str) -> tuple[Placement, str, list[str]]:
    if run and run not in runs:
        raise Misuse(f"--run {run}: there are pods of {', '.join(sorted(runs))}")
    if not run and len(runs) > 1:
        raise Misuse(f"{objects.source}: there are pods of several runs: name one by --run: {', '.join(sorted(runs))}")
    which = run or next(iter(runs))
    modes = runs[which] or {"none"}
    if len(modes) > 1:
        raise Misuse(f"{objects.source}: pods of run {which} are of several modes: {', '.join(sorted(modes))}")
    pods = [pod for pod in objects.of("Pod") if labels_of(pod).get(LABEL_RUN) == which]
    mode = mode_named(next(iter(modes)))
    return plan_own_placement(pods, mode), f"sharedfate, mode {mode.name}", []


def _of_target(objects: Objects, target: TargetSystem) -> tuple[Placement, str, list[str]]:
    site, caveats = objects.site, []
    spaces = {one["metadata"]["name"] for one in site.namespaces}
    with_pods = {pod["metadata"]["namespace"] for pod in site.pods}
    if missing := [name for name in target.namespaces if name not in spaces | with_pods]:
        raise Misuse(f"tenants: {objects.source} holds nothing of namespace {', '.join(missing)}")
    mesh = target.mesh or detect_mesh(descriptions().values(), *_seen_by(target, site))
    if unseen := [name for name in target.namespaces if name not in spaces]:
        caveats += _without_labels(mesh, site, unseen)
    return plan_placement(target, mesh, site), mesh.name, caveats


def _seen_by(target: TargetSystem, site: Site) -> tuple[list[Object], list[Object]]:
    """The namespaces and pods by which a mesh is detected, as on a cluster: the tenants', and what may be a proxy."""
    spaces = set(target.namespaces)
    apart = [rule for mesh in descriptions().values() for rule in mesh.rules if not rule.in_pod]
    return (
        [one for one in site.namespaces if one["metadata"]["name"] in spaces],
        [
            pod
            for pod in site.pods
            if pod["metadata"]["namespace"] in spaces or any(_is_labelled(rule, pod) for rule in apart)
        ],
    )


def _is_labelled(rule: ProxyRule, pod: Object) -> bool:
    labels = labels_of(pod)
    return all(key in labels and value in (ANY, labels[key]) for key, value in rule.labels.items())


def _without_labels(mesh: MeshDescription, site: Site, unseen: Sequence[str]) -> list[str]:
    """Say what cannot be known without the namespaces' labels. Raises Misuse where a path may hang on them."""
    waypoints = [rule for rule in mesh.rules if rule.binding is not None]
    there = any(_is_labelled(rule, pod) for rule in waypoints for pod in site.pods)
    names = ", ".join(unseen[:3])
    if there or any(rule.carries_in for rule in mesh.rules):
        raise Misuse(
            f"the saved objects hold no Namespace {names}, and its labels decide which proxies of {mesh.name} its "
            f"calls pass: save them too: `{COMMAND}`"
        )
    return [f"no Namespace {names} was saved: that its labels ask nothing of {mesh.name} is taken for granted"]


# ---- without a target file


def guess_target(objects: Objects) -> tuple[TargetSystem, list[str]]:
    """Return the calls that could be, each namespace a tenant, and the sentence that says so.

    Within a namespace, each workload that no Service leads to calls each that one does; where Services lead to all,
    each calls each other. Raises Misuse when nothing could call anything.
    """
    everyone = _everyone(objects.site)
    behind = _behind_services(objects)
    ends: dict[str, tuple[set[str], set[str]]] = {}
    for pod in objects.of("Pod"):
        meta = pod["metadata"]
        if meta["namespace"] in _OF_THE_CLUSTER or not is_live(pod) or any(_is_labelled(r, pod) for r in everyone):
            continue
        clients, servers = ends.setdefault(meta["namespace"], (set(), set()))
        served = (meta["namespace"], meta["name"]) in behind
        (servers if served else clients).add(f"{meta['namespace']}/{workload_name(pod)}")
    calls = [
        Call(client, server)
        for _, (clients, servers) in sorted(ends.items())
        for client in sorted(clients - servers or servers)
        for server in sorted(servers)
        if client != server
    ]
    if not calls:
        raise Misuse(
            f"{objects.source}: no Service leads to a pod of a namespace with another workload in it, so no call is "
            "known: say who calls whom in a target file (--target; `sharedfate target --discover` writes one)"
        )
    spaces = dict.fromkeys(call.namespaces[0] for call in calls)
    said = (
        "who calls whom was not said: within each namespace, workloads that no Service leads to are taken to call all "
        "that one does (--target says it)"
    )
    return TargetSystem({name: (name,) for name in spaces}, tuple(calls), _found_mesh(objects, spaces)), [said]


def _everyone(site: Site) -> list[ProxyRule]:
    """The rules of proxies that stand apart, of the meshes that there is a sign of."""
    known = [one for one in descriptions().values() if why_it_is(one, site.namespaces, site.pods)]
    return [rule for mesh in known for rule in mesh.rules if not rule.in_pod and rule.labels]


def _behind_services(objects: Objects) -> set[tuple[str, str]]:
    """(namespace, name) of the pods that Services lead to: by their EndpointSlices where those were saved, else by
    their selectors.
    """
    slices = objects.of("EndpointSlice")
    if slices:
        return {
            (one["metadata"]["namespace"], endpoint["targetRef"]["name"])
            for one in slices
            if _SERVICE_NAME in labels_of(one)
            for endpoint in one.get("endpoints") or ()
            if (endpoint.get("targetRef") or {}).get("kind") == "Pod"
        }
    services: dict[str, list[Object]] = {}
    for service in objects.of("Service"):
        services.setdefault(service["metadata"]["namespace"], []).append(service)
    return {
        (pod["metadata"]["namespace"], pod["metadata"]["name"])
        for pod in objects.of("Pod")
        if any(selects(one, pod) for one in services.get(pod["metadata"]["namespace"], ()))
    }


def _found_mesh(objects: Objects, spaces: Collection[str]) -> MeshDescription | None:
    """The mesh that there are signs of; NO_MESH where there are none. None: several, so the target file must say."""
    namespaces = [one for one in objects.of("Namespace") if one["metadata"]["name"] in spaces]
    known = [one for one in descriptions().values() if why_it_is(one, namespaces, objects.of("Pod"))]
    return NO_MESH if not known else known[0] if len(known) == 1 else None
