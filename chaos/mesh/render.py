"""A mode's manifests as data, without a cluster: what `Mesh` applies, and what `sharedfate render` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from chaos.kube.nodes import NodeChoice
from chaos.mesh import inject, manifests
from chaos.mesh.budget import Budget, Reference, Share, divide
from chaos.mesh.controlplane.settings import settings
from chaos.mesh.modes import mode_named
from chaos.mesh.mutations import MUTATIONS_VARIABLE, NO_DEFECTS, Defects
from chaos.mesh.snapshot import Features
from chaos.model.modes import ProxyMode
from chaos.names import CONTROL_PLANE, NODE_PROXY

Object = dict[str, Any]
RUN_FILES: Final = ("namespace.yaml", "rbac/watchdog.yaml", "watchdog.yaml")  # what a run has, whatever its mode


@dataclass(frozen=True, slots=True)
class MeshPlan:
    """All inputs of a mesh's manifests.

    Attributes:
        shares: what one proxy of each layer gets (`chaos.mesh.budget.divide`).
        certificate_seconds: life of the proxies' certificates.
        mutable: its control plane takes defects from the settings: for tests of the checks.
        nodes: where the mesh's own parts may lie; None: anywhere.
    """

    mode: ProxyMode
    run: str
    shares: Mapping[str, Share]
    features: Features = field(default_factory=Features)
    certificate_seconds: float = 3600.0
    defects: Defects = NO_DEFECTS
    mutable: bool = False
    nodes: NodeChoice | None = None

    @property
    def values(self) -> Mapping[str, int]:
        """What the mode's manifests ask for: `l4_l7_cpu` (millicores), `l4_l7_memory` (Mi), ... per layer."""
        return {
            f"{name.replace('-', '_')}_{part}": value
            for name, share in self.shares.items()
            for part, value in (("cpu", share.cpu_millicores), ("memory", share.memory_mib))
        }

    @property
    def settings(self) -> str:
        """The text of the ConfigMap `mesh`."""
        return settings(
            self.mode.name,
            run=self.run,
            features={f.name: getattr(self.features, f.name) for f in fields(Features)},
            values=self.values,
            certificate_seconds=self.certificate_seconds,
            defects=self.defects,
        )

    def system_manifests(self) -> list[Object]:
        """The mesh's own parts: namespace, RBAC, control plane, the mode's components."""
        values = {**self.values, "mode": self.mode.name, "run": self.run, "mesh_json": self.settings}
        components = manifests.load(f"modes/{self.mode.name}/components.yaml", values)
        privileged = any(
            (inject.pod_template(c) or {}).get("spec", {}).get("serviceAccountName") == NODE_PROXY for c in components
        )
        objects = inject.stamp(
            [
                *(obj for file in RUN_FILES for obj in manifests.load(file, values)),
                *manifests.load("rbac/control-plane.yaml", values),
                *(manifests.load("rbac/node-proxy.yaml", values) if privileged else []),
                *manifests.load("control-plane.yaml", values),
                *components,
            ],
            self.run,
        )
        for obj in objects:
            if (template := inject.pod_template(obj)) is None:
                continue
            if self.nodes is not None:  # a run's mesh, and no manifest to be applied for good
                inject.keep_in_place(obj)
                template["spec"].setdefault("affinity", self.nodes.affinity())
            if self.mutable and obj["metadata"]["name"] == CONTROL_PLANE:
                template["spec"]["containers"][0]["env"].append({"name": MUTATIONS_VARIABLE, "value": "allowed"})
        return objects

    def of_the_run(self) -> frozenset[tuple[str, str]]:
        """Kind and name of those of them that are the same in every mode of a run."""
        values = {"mode": self.mode.name, "run": self.run}
        return frozenset(
            (obj["kind"], obj["metadata"]["name"]) for file in RUN_FILES for obj in manifests.load(file, values)
        )

    def inject(self, objects: Iterable[Object]) -> list[Object]:
        """The application's manifests, patched for the mode."""
        return inject.inject(objects, self.mode, run=self.run, values=self.values)


def render_mode(mode: str, objects: Iterable[Object], *, run: str, budget: Budget | None = None) -> str:
    """Return multi-document YAML: the mesh's parts, then the objects patched for the mode.

    Args:
        budget: CPU and memory of all proxies together, divided over the reference placement; None: the default.

    Raises Misuse for an unknown mode, or an object without kind or name.
    """
    own = list(objects)
    manifests.check(own, source="the manifests given")
    found = mode_named(mode)
    plan = MeshPlan(found, run, divide(found, budget or Budget(), Reference()))
    return manifests.dump([*plan.system_manifests(), *plan.inject(own)])
