"""`InstalledMesh`: a mesh that is already in the cluster, with the reference applications in it.

It installs no mesh and removes none. The tenants' namespaces, pods and Services get the labels and annotations that the
mesh's description says, and what it says besides (a Gateway); that they are carried is seen by the mesh's own signs,
never slept for. Everything that is made carries the run's label, and goes with the run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from chaos.errors import EnvironmentUnfit, ExperimentFailure, Misuse, NotFound, NotReady
from chaos.external import own_parts
from chaos.external.described import DescribedMesh
from chaos.external.description import ControlPlanePart, Feature, Installation, Marks, Reconfiguration
from chaos.external.file import Call, TargetSystem
from chaos.external.holding import hold, refuse_unowned, release
from chaos.external.modes import InstalledMode
from chaos.external.placement import plan_placement, read_proxy_pods, read_site
from chaos.external.reading import read_page, rule_of
from chaos.kube.access import list_readable
from chaos.kube.applying import Object, apply_all, delete_all, is_ready, namespaces_of_run, wait_all_ready
from chaos.kube.client import Cluster, kind_key
from chaos.kube.control_key import stored_key
from chaos.kube.objects import has_condition
from chaos.kube.readiness import AwaitedWorkload, causes, read
from chaos.mesh import inject, manifests
from chaos.mesh.budget import Budget, divide
from chaos.mesh.handle import PlanePart
from chaos.model.fate import path
from chaos.model.modes import Hop, Scope, layer_name
from chaos.model.placement import Placement, Proxy
from chaos.names import SYSTEM_NAMESPACE

TENANTS_CLIENT: Final = "client"  # account of the reference clients
HARMLESS_TIMEOUT: Final = "15s"  # which no request of a reference client needs
TAKEN_SECONDS: Final = 60.0  # longest wait until every proxy has what its control plane was given
OBJECTS: Final = "meshes/objects"  # under manifests: what a mesh's description has applied for a tenant


class InstalledMesh(DescribedMesh):
    """The reference tenants in a mesh that is not ours: a `MeshHandle`.

    Args:
        tenants: namespace of each tenant, by its name.
        calls: (client key, server key) of each, and how its server is reached.
        budget: for the proxies that are made for our tenants; those that were there keep what they have.
    """

    def __init__(
        self,
        cluster: Cluster,
        mode: InstalledMode,
        *,
        run: str,
        tenants: Mapping[str, str],
        calls: Mapping[tuple[str, str], str],
        budget: Budget | None = None,
    ) -> None:
        self.cluster, self.run = cluster, run
        self.mode = mode.row
        self.description, self.rule = mode.mesh, mode.rule
        self.target = TargetSystem(
            {name: (space,) for name, space in tenants.items()},
            tuple(Call(client, server, reach) for (client, server), reach in calls.items()),
            mode.mesh,
            mode.rule.name,
        )
        self._shares = divide(self.mode, budget or Budget())
        self._deployed: list[Object] = []
        self._held: list[Proxy] = []  # of others too, limited for as long as the run lasts

    def plane_parts(self) -> list[PlanePart]:
        """The Deployments of the mesh's control plane, each with what this mode's new pods do without it."""
        found = plane_parts(self.cluster, self.description.installation)
        return [replace(one, without=self.rule.without.get(one.name)) for one in found]

    def why_bare(self, pod: Object) -> str:
        """By the marks that a carried pod of this mode has."""
        return ", ".join(self.rule.enrolment.carried.missing(pod))

    # ---- what is applied

    def inject(self, objects: Iterable[Object]) -> list[Object]:
        """Return the objects with the run's label, and with what enrols them in the mesh."""
        enrolment = self.rule.enrolment
        found: list[Object] = []
        for obj in inject.stamp(objects, self.run):
            template = inject.pod_template(obj)
            if obj["kind"] == "Namespace":
                _mark(obj, enrolment.namespaces)
            elif obj["kind"] == "Service":
                _mark(obj, enrolment.services)
            elif template is not None:
                _mark(template, enrolment.pods)
                _mark(template, Marks(annotations=manifests.fill(enrolment.budget, self._values(), source="budget")))
            found.append(obj)
            if obj["kind"] == "Namespace" and enrolment.objects:
                values = {**self._values(), "namespace": obj["metadata"]["name"]}
                found += inject.stamp(manifests.load(f"{OBJECTS}/{enrolment.objects}", values), self.run)
        return found

    def _values(self) -> dict[str, int]:
        """Return the resources of each of our tenants' own proxies: the share of the layer that is made for them."""
        own = [name for name, _ in self.rule.path if self.description.rule(name).in_pod]
        own += [name for name, _ in self.rule.path if self.description.rule(name).binding is not None]
        share = self._shares[layer_name(self.description.rule(own[0]).layers)] if own else None
        return {"cpu": share.cpu_millicores, "memory": share.memory_mib} if share else {"cpu": 0, "memory": 0}

    def unknown_kinds(self, feature: Feature) -> list[str]:
        """Return the kinds of a feature's objects that this cluster does not have."""
        return self._unknown_kinds(self._source(feature))

    def _unknown_kinds(self, source: str) -> list[str]:
        found = []
        for kind in dict.fromkeys(kind_key(obj) for obj in manifests.unfilled(source)):
            try:
                self.cluster.list(kind, self.target.namespaces[0])
            except NotFound:
                found.append(kind)
        return found

    def _source(self, feature: Feature) -> str:
        return f"{OBJECTS}/{self.rule.features[feature]}"

    @contextmanager
    def asked_for(self, feature: Feature, **values: Any) -> Iterator[None]:
        """Apply the mesh's own objects that ask for a feature, until the block is left."""
        objects = inject.stamp(manifests.load(self._source(feature), values), self.run)
        apply_all(self.cluster, objects)
        try:
            yield
        finally:
            delete_all(self.cluster, objects)

    @contextmanager
    def reconfigured(self) -> Iterator[None]:
        """Apply what the mode's description says to each tenant's namespace, until left. Raises Misuse where it says
        nothing, or names kinds that the cluster does not have.
        """
        if (how := self.rule.reconfiguration) is None:
            raise Misuse(f"mode {self.rule.name}: its description says no way to configure its proxies anew")
        source = f"{OBJECTS}/{how.objects}"
        if unknown := self._unknown_kinds(source):
            raise Misuse(f"mode {self.rule.name}: this cluster has no kind {', '.join(unknown)}")
        objects: list[Object] = []
        for space in self.target.namespaces:
            values = {"namespace": space, "account": TENANTS_CLIENT, "timeout": HARMLESS_TIMEOUT}
            objects += inject.stamp(manifests.load(source, values), self.run)
        names = {obj["metadata"]["name"] for obj in objects}
        try:
            apply_all(self.cluster, objects)
            self._await_named(how, names, there=True)
            yield
        finally:
            delete_all(self.cluster, objects)
            self._await_named(how, names, there=False)

    def _await_named(self, how: Reconfiguration, names: set[str], *, there: bool) -> None:
        """Wait until the page of each proxy of that hop names the objects, or none of them. Raises NotReady."""
        name, side = how.hop
        rule = self.description.rule(name)
        placement = self.placement()
        behind = [
            proxy
            for proxy in placement.proxies
            if rule_of(self.description, proxy) is rule
            and any(proxy.serves(pair.at(side)) for pair in placement.pairs())
        ]

        def taken() -> bool:
            pages = {proxy: read_page(self.cluster, proxy, rule.reads[how.page]) for proxy in behind}
            behind[:] = [proxy for proxy, page in pages.items() if any(one in page for one in names) is not there]
            return not behind

        try:
            self.cluster.wait(f"another configuration in every {name}", taken, seconds=TAKEN_SECONDS)
        except NotReady as error:
            word = "does not name" if there else "still names"
            raise NotReady(
                f"{error}: the {how.page} of {', '.join(map(str, behind))} {word} {', '.join(sorted(names))}"
            ) from error

    # ---- life

    def start(self, objects: Iterable[Object], *, seconds: float = 120.0) -> None:
        """Apply the run's own parts and the tenants, and wait until the mesh carries them."""
        refuse_unowned(self.cluster, self.description, self.rule, self._shares)
        self.refuse_missing()
        own_parts.start(self, objects, seconds=seconds)

    def deploy(self, objects: Iterable[Object], *, seconds: float = 120.0) -> None:
        """Apply more workloads, and wait in the same way. Raises NotReady naming the sign that is missing."""
        injected = self.inject(objects)
        self._deployed += injected
        apply_all(self.cluster, inject.told_digests(injected, stored_key(self.cluster, run=self.run)))
        wait_all_ready(self.cluster, injected, seconds=seconds)
        missing: list[str] = []

        def enrolled() -> bool:
            missing[:] = self.missing_signs()
            return not missing

        try:
            self.cluster.wait(
                f"mode {self.mode.name}: {self.description.name} carries the tenants", enrolled, seconds=seconds
            )
        except NotReady as error:
            raise NotReady(f"{error}: {'; '.join([*missing[:4], *self.held_up()])}") from error
        if self.rule.holds_shared:
            shared = [proxy for proxy in self.placement().proxies if proxy.scope is Scope.NODE]
            self._held += hold(self.cluster, shared, self._shares)

    def held_up(self) -> list[str]:
        """Return why what the mesh makes in the tenants' namespaces, a waypoint of a Gateway, is not ready: a sentence
        for each cause, in the cluster's words.
        """
        waiting = [
            AwaitedWorkload("Deployment", space, obj["metadata"]["name"])
            for space in self.target.namespaces
            for obj in self.cluster.list("Deployment", space)
            if not is_ready(obj)
        ]
        return causes(waiting, read(self.cluster, waiting))

    def missing_signs(self) -> list[str]:
        """Return the signs that the mesh does not show yet for tenants that it should carry, a sentence each."""
        enrolment = self.rule.enrolment
        site = read_site(self.cluster, self.target)
        spaces = set(self.target.namespaces)
        found = []
        for pod in site.pods:
            meta = pod["metadata"]
            if meta["namespace"] in spaces and (meta.get("labels") or {}).get("app") in ("client", "server"):
                found += [
                    f"Pod {meta['namespace']}/{meta['name']} has no {mark}" for mark in enrolment.carried.missing(pod)
                ]
        for service in site.services:
            meta = service["metadata"]
            if meta["namespace"] in spaces and meta["name"] == "server":
                found += [
                    f"Service {meta['namespace']}/{meta['name']}: {condition} is not True"
                    for condition in enrolment.service_conditions
                    if not has_condition(service, condition)
                ]
        for obj in self._deployed:
            if (condition := enrolment.object_conditions.get(obj["kind"])) is not None:
                meta = obj["metadata"]
                live = self.cluster.find(obj["kind"], meta["name"], meta["namespace"])
                if live is None or not has_condition(live, condition):
                    found.append(f"{obj['kind']} {meta['namespace']}/{meta['name']}: {condition} is not True")
        return found or self._other_paths()

    def _other_paths(self) -> list[str]:
        """Return the calls whose path differs from the mode's, with why."""
        try:
            placement = self.placement()
            found = []
            for pair in placement.pairs():
                route = placement.route(pair)
                if list(map(_shape, route.hops)) != list(map(_shape, self.mode.hops)):
                    found.append(f"{' -> '.join(pair.call)}: {'; '.join(route.because) or 'another path'}")
                path(placement, pair)
        except (ExperimentFailure, Misuse) as error:
            return [str(error)]
        return list(dict.fromkeys(found))

    def uninstall(self, *, seconds: float = 120.0) -> None:
        """Remove the tenants and the run's own parts; the mesh stays as it is. Safe to repeat."""
        spaces = [one["metadata"]["name"] for one in namespaces_of_run(self.cluster, self.run)]
        tenants = [name for name in spaces if name != SYSTEM_NAMESPACE]
        delete_all(
            self.cluster, [obj for obj in self._deployed if obj["kind"] in self.rule.enrolment.object_conditions]
        )
        delete_all(self.cluster, [{"kind": "Namespace", "metadata": {"name": name}} for name in tenants])
        self._deployed = []
        self._let_go()
        own_parts.remove(self, tenants, seconds=seconds)

    def vacate(self, *, seconds: float = 120.0) -> None:
        """Remove the tenants, and leave the run's namespaces to its next mode, empty."""
        deployed, self._deployed = self._deployed, []
        self._let_go()
        own_parts.vacate(self, deployed, seconds=seconds)

    def _let_go(self) -> None:
        """Give the mesh's own proxies back what they had before they were held to a budget."""
        release(self.cluster, self._held)
        self._held = []

    # ---- looking

    def placement(self, calls: Sequence[tuple[str, str]] | None = None) -> Placement:
        """Read the current placement."""
        del calls  # the tenants' own
        return plan_placement(self.target, self.description, read_site(self.cluster, self.target), everyone=True)

    def control_plane(self) -> list[dict[str, Any]]:
        """Return the existing Deployments of the mesh's control plane."""
        return [obj for part in self.description.installation.parts for obj in read_part(self.cluster, part)]

    def refuse_missing(self) -> None:
        """Raise EnvironmentUnfit, with the official command, when the mesh is not installed, or when the cluster does
        not have the kinds of what this mode asks of it.
        """
        if not self.control_plane():
            raise EnvironmentUnfit(
                why_missing(self.description.name, self.rule.name, self.cluster.name, self.description)
            )
        if (file := self.rule.enrolment.objects) and (unknown := self._unknown_kinds(f"{OBJECTS}/{file}")):
            needs = " && ".join(one.command for one in self.description.installation.needs)
            raise EnvironmentUnfit(
                f"mode {self.rule.name}: {self.cluster.name} has no kind {', '.join(unknown)}, which "
                f"{self.description.name} does not bring. The official command: {needs or 'see its documentation'} "
                f"({self.description.installation.docs})"
            )

    def namespaces_of_proxies(self) -> list[str]:
        """Return the namespaces of the proxies that stand apart and were there before us."""
        return sorted({pod["metadata"]["namespace"] for pod in read_proxy_pods(self.cluster, self.target)})


def why_missing(mesh: str, mode: str, cluster: str, description: Any) -> str:
    """Say that a mesh is not installed, and what would install it."""
    labels = ", ".join(
        f"{key}={value}" for part in description.installation.parts[:1] for key, value in part.labels.items()
    )
    return (
        f"mode {mode}: {mesh} is not installed in {cluster} (no Deployment with label {labels}). Its own command: "
        f"{description.installation.whole_command} ({description.installation.docs})"
    )


def plane_parts(cluster: Cluster, installation: Installation) -> list[PlanePart]:
    """The Deployments of a mesh's control plane, by the parts that its description names."""
    return [
        PlanePart(part.name, f"{obj['metadata']['namespace']}/{obj['metadata']['name']}")
        for part in installation.parts
        for obj in read_part(cluster, part)
    ]


def read_part(cluster: Cluster, part: ControlPlanePart) -> list[dict[str, Any]]:
    """The Deployments of a part of a control plane, in any namespace; none to a user who may not list them."""
    return list_readable(cluster, "Deployment", labels=",".join(f"{key}={value}" for key, value in part.labels.items()))


def _mark(obj: Object, marks: Marks) -> None:
    """Give an object labels and annotations, in place."""
    meta = obj.setdefault("metadata", {})
    for field, added in (("labels", marks.labels), ("annotations", marks.annotations)):
        if added:
            meta[field] = {**(meta.get(field) or {}), **copy.deepcopy(dict(added))}


def _shape(hop: Hop) -> tuple[str, str, str]:
    return (hop.scope, hop.side, layer_name(hop.layers))
