"""Injection: patches application manifests that know no mesh for a mode. Reads YAML, no cluster.

The patch is manifests/modes/<mode>/pod.yaml, merged into every pod template as Kubernetes' strategic merge would (lists
whose items have names are merged by name). Namespaces of injected pods get what is in the mode's namespace.yaml.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final

from chaos.control_key import VARIABLE, ControlKey
from chaos.errors import Misuse
from chaos.kube.objects import probed_ports
from chaos.mesh import capture, manifests
from chaos.model.modes import ProxyMode
from chaos.names import IMAGE, KEEP_IN_PLACE, LABEL_MESH, LABEL_MODE, LABEL_POD_SECURITY, LABEL_RUN, PORT_CONTROL

Object = dict[str, Any]

_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {  # kind -> where its pod template is
    "Pod": (),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_CLUSTER_WIDE: Final = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding"})


def pod_template(obj: Object) -> Object | None:
    """Return the pod template (or the Pod itself) inside an object; None when it holds none."""
    if obj.get("kind") not in _TEMPLATES:
        return None
    node = obj
    for step in _TEMPLATES[obj["kind"]]:
        node = node.setdefault(step, {})
    return node


def stamp(objects: Iterable[Object], run: str) -> list[Object]:
    """Copies that carry the run's label, on objects and pod templates: faults and clean-up touch nothing without it."""
    stamped = []
    for original in objects:
        obj = copy.deepcopy(original)
        spec = obj.get("spec") or {}
        metas = [obj.setdefault("metadata", {})]
        if (template := pod_template(obj)) is not None and template is not obj:
            metas.append(template.setdefault("metadata", {}))
        if obj.get("kind") == "CronJob":
            metas.append(spec["jobTemplate"].setdefault("metadata", {}))
        for meta in metas:
            meta["labels"] = {**(meta.get("labels") or {}), LABEL_RUN: run}
        stamped.append(obj)
    return stamped


def keep_in_place(obj: Object) -> Object:
    """Return the object with pods that ask autoscalers to leave their node alone while the run lasts."""
    if (template := pod_template(obj)) is not None:
        meta = template.setdefault("metadata", {})
        meta["annotations"] = {**KEEP_IN_PLACE, **(meta.get("annotations") or {})}
    return obj


def told_digests(objects: Iterable[Object], key: ControlKey) -> list[Object]:
    """Copies whose containers with a control port of ours are told what token opens it."""
    found = []
    for original in objects:
        obj = copy.deepcopy(original)
        template = pod_template(obj) or {}
        for container in (template.get("spec") or {}).get("containers") or []:
            ports = {port.get("containerPort") for port in container.get("ports") or []}
            if PORT_CONTROL in ports and container.get("image") == IMAGE:
                env = [one for one in container.get("env") or [] if one["name"] != VARIABLE]
                digest = key.digest(obj["metadata"].get("namespace", "default"))
                container["env"] = [*env, {"name": VARIABLE, "value": digest}]
        found.append(obj)
    return found


def inject(objects: Iterable[Object], mode: ProxyMode, *, run: str, values: Mapping[str, Any]) -> list[Object]:
    """Return patched copies, each with the run's label. Mode `none` has no patch and changes nothing else.

    Left alone: pods with hostNetwork (there is no namespace of theirs to capture), pods with the label
    `sharedfate.io/mesh: disabled`, and pods that are injected already. A namespace that the objects use and do not hold
    is put in front of them, with the mesh's labels alone. Raises Misuse for a pod that has a container or
    volume of the proxy's name.
    """
    filled = {"mode": mode.name, "run": run, **values}
    patches = manifests.load(f"modes/{mode.name}/pod.yaml", filled)
    injected: list[Object] = []
    own = stamp(objects, run)
    if (
        patches
    ):  # namespaces that are not ours: labelled for the mesh, without the run's label that allows deleting them
        declared = {obj["metadata"]["name"] for obj in own if obj.get("kind") == "Namespace"}
        used = namespaces_of(obj for obj in own if pod_template(obj) is not None)
        own = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {}}}
            for name in used
            if name not in declared
        ] + own
    for obj in own:
        template = pod_template(obj)
        if patches and obj.get("kind") == "Namespace":
            obj["metadata"]["labels"] |= {LABEL_MESH: "enabled", LABEL_MODE: mode.name}
            if LABEL_POD_SECURITY in obj["metadata"]["labels"] and needs_privileged(mode):
                obj["metadata"]["labels"][LABEL_POD_SECURITY] = "privileged"
        elif patches and template is not None and _wants(template):
            _refuse_clashes(obj, template, patches[0])
            apply_patch(template, patches[0])
            _tell_probes(template)
        injected.append(obj)
        if obj.get("kind") == "Namespace":
            values_here = {**filled, "namespace": obj["metadata"]["name"]}
            extra = manifests.load(f"modes/{mode.name}/namespace.yaml", values_here)
            injected.extend(stamp(extra, run))
    return injected


def needs_privileged(mode: ProxyMode) -> bool:
    """Whether the mode puts containers with capabilities of their own into the applications' namespaces: capture beside
    an application, or waypoints. Pod Security's level there has to be `privileged` then.
    """
    files = [f"modes/{mode.name}/{name}" for name in ("pod.yaml", "namespace.yaml", "waypoint.yaml")]
    return any(_adds_capabilities(manifests.unfilled(file)) for file in files)


def _adds_capabilities(node: Any) -> bool:
    if isinstance(node, dict):
        return bool((node.get("capabilities") or {}).get("add")) or any(map(_adds_capabilities, node.values()))
    return isinstance(node, list) and any(map(_adds_capabilities, node))


def _wants(template: Object) -> bool:
    labels = (template.get("metadata") or {}).get("labels") or {}
    return (
        not (template.get("spec") or {}).get("hostNetwork")
        and labels.get(LABEL_MESH) != "disabled"
        and LABEL_MODE not in labels
    )


def _refuse_clashes(obj: Object, template: Object, patch: Object) -> None:
    spec = template.get("spec") or {}
    for field, ours in (patch.get("spec") or {}).items():
        if isinstance(ours, list) and field in ("containers", "initContainers", "volumes"):
            taken = {item["name"] for item in ours} & {item.get("name") for item in spec.get(field) or []}
            if taken:
                raise Misuse(
                    f"{obj['kind']} {obj['metadata'].get('name')}: spec.{field} has {', '.join(sorted(taken))}"
                    ", names that injection needs: rename it"
                )


def apply_patch(template: Object, patch: Object) -> None:
    """Merge a pod patch into a template, in place."""
    meta, ours = template.setdefault("metadata", {}), patch.get("metadata") or {}
    for field, added in ours.items():
        meta[field] = {**(meta.get(field) or {}), **added}
    spec = template.setdefault("spec", {})
    for field, added in (patch.get("spec") or {}).items():
        present = spec.get(field)
        if not isinstance(added, list):
            spec[field] = {**present, **copy.deepcopy(added)} if isinstance(present, dict) else copy.deepcopy(added)
        # An init container that stays must run before the application's own, so that these find a proxy. One that only
        # captures must run after them: they would be captured with no proxy yet.
        elif field == "initContainers" and any(item.get("restartPolicy") == "Always" for item in added):
            spec[field] = [*copy.deepcopy(added), *(present or [])]
        else:
            spec[field] = [*(present or []), *copy.deepcopy(added)]


def _tell_probes(template: Object) -> None:
    """Tell the container that captures, where the patch has one, which ports the pod's kubelet probes."""
    spec = template["spec"]
    ports = ",".join(map(str, sorted(probed_ports(spec))))
    for container in spec.get("initContainers") or []:
        if capture.__name__ in (container.get("command") or ()):
            container["env"] = [*(container.get("env") or []), {"name": capture.PROBED_VARIABLE, "value": ports}]


def namespaces_of(objects: Iterable[Object]) -> list[str]:
    """The namespaces that the objects are or lie in, in order."""
    names: dict[str, None] = {}
    for obj in objects:
        if obj.get("kind") == "Namespace":
            names[obj["metadata"]["name"]] = None
        elif obj.get("kind") not in _CLUSTER_WIDE:
            names[obj["metadata"].get("namespace", "default")] = None
    return list(names)
