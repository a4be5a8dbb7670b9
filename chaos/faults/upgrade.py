"""A workload gets another image, environment, arguments or pod annotations, and on recovery its earlier template."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from chaos.errors import Misuse, NoEffect, NotReady
from chaos.faults import notes, workload
from chaos.faults.activity import Activity
from chaos.faults.model import EXISTENCE, Evidence, Facts, Receipt, Target, Witness
from chaos.faults.needs import Need
from chaos.kube.client import Cluster, Object
from chaos.model.faulting import FaultShape


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Roll out a changed pod template, and roll it back.

    Args:
        container: which container of the template, init containers among them; "" for its first.
        image: the new image; "" keeps the old one.
        env: variables that are added or changed.
        args: the new arguments; none keeps the old ones.
        annotations: of the pods, added or changed: what decides on containers that a webhook adds.
        whole: see the roll-out through before the fault counts as injected; else its first new pod is enough (an image
            that does not exist never gets further).
        seconds: longest wait for the roll-out, and for the way back.
    """

    name: ClassVar[str] = "upgrade"
    shape: ClassVar[FaultShape] = FaultShape.HELD
    targets: ClassVar[frozenset[str]] = frozenset({"workload"})
    aspects: ClassVar[frozenset[str]] = frozenset({EXISTENCE})
    witness: ClassVar[Witness] = Witness.PODS
    needs: ClassVar[tuple[Need, ...]] = (Need.WORKLOADS,)
    activity: ClassVar[Activity] = Activity(
        "upgrade_workload", "roll_back_workload", deadline=300.0, workload="DaemonSet/node-proxy"
    )
    container: str = ""
    image: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True
    seconds: float = 180.0

    def __post_init__(self) -> None:
        if not (self.image or self.env or self.args or self.annotations):
            raise Misuse("fault upgrade: nothing is changed: set image, env, args or annotations")

    def plan(self, cluster: Cluster, target: Target) -> Facts:
        found = workload.living(cluster, target)
        notes.refuse_noted(found, target)
        template = found["spec"]["template"]
        return {
            "template": template,
            "changed": plan_template(template, self),
            "generation": found["metadata"].get("generation", 1),
        }

    def inject(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        target, at = receipt.target, time.time_ns()
        metadata = notes.json_patch(notes.patch_with(receipt), workload.living(cluster, target))
        _put(cluster, target, receipt.facts["changed"], metadata)

        def seen() -> dict[str, Any]:
            found = workload.living(cluster, target)
            status = found.get("status") or {}
            if status.get("observedGeneration", 0) <= receipt.facts["generation"]:
                return {}
            if self.whole:
                return workload.rolled_out(found)
            new = workload.updated(found)
            return {"updated": new} if new else {}

        try:
            return Evidence(at, cluster.wait("rolled out", seen, seconds=self.seconds, every=0.1))
        except NotReady as error:
            raise NoEffect(f"{target}: its new template was not rolled out: {error}") from error

    def recover(self, cluster: Cluster, receipt: Receipt) -> Evidence:
        found = workload.living(cluster, receipt.target)
        metadata = notes.json_patch(notes.patch_without(receipt, found), found)
        _put(cluster, receipt.target, receipt.facts["template"], metadata)
        return workload.recovered(cluster, receipt.target, seconds=self.seconds)


def plan_template(template: Mapping[str, Any], upgrade: Upgrade) -> Object:
    """Return the changed template. Pure; raises Misuse when it has no such container, or nothing would change."""
    spec = template["spec"]
    places = [place for place in ("containers", "initContainers") if spec.get(place)]
    names = [one["name"] for place in places for one in spec[place]]
    name = upgrade.container or names[0]
    if name not in names:
        raise Misuse(f"fault upgrade: the template has no container {name!r}: it has {', '.join(names)}")
    parts = {place: [_changed(one, upgrade) if one["name"] == name else one for one in spec[place]] for place in places}
    changed = {**template, "spec": {**spec, **parts}}
    if upgrade.annotations:
        meta = template.get("metadata") or {}
        annotations = {**(meta.get("annotations") or {}), **upgrade.annotations}
        changed["metadata"] = {**meta, "annotations": annotations}
    if changed == template:
        raise Misuse("fault upgrade: the template is already like that: nothing would be rolled out")
    return changed


def _changed(container: Mapping[str, Any], upgrade: Upgrade) -> Object:
    env = [item for item in container.get("env") or [] if item["name"] not in upgrade.env]
    env += [{"name": key, "value": str(value)} for key, value in upgrade.env.items()]
    return {
        **container,
        **({"image": upgrade.image} if upgrade.image else {}),
        **({"env": env} if upgrade.env else {}),
        **({"args": list(upgrade.args)} if upgrade.args else {}),
    }


def _put(cluster: Cluster, target: Target, template: Object, metadata: list[Object]) -> None:
    """Replace the template as a whole: a merge would leave behind what the other one added."""
    steps = [*metadata, {"op": "replace", "path": "/spec/template", "value": template}]
    cluster.patch(target.workload_kind, target.name, steps, target.namespace, how="json")
