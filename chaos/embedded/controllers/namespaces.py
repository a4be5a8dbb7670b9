"""Namespaces: each gets a default ServiceAccount and the cluster's CA; a deleted one is emptied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from chaos.embedded.clock import Clock, stamp
from chaos.embedded.controllers.base import Controller, Keys, Source, is_terminating, itself, key_of
from chaos.embedded.resources import CONFIG_MAP, NAMESPACE, POD, RESOURCES, SERVICE_ACCOUNT, Object, Resource
from chaos.embedded.store import Key, Store, WatchEvent

ROOT_CA: Final = "kube-root-ca.crt"
_DESCRIPTION: Final = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of "
    "Kubernetes clusters."
)


class NamespaceDefaults(Controller):
    """Keeps the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt` in each namespace."""

    name = "serviceaccount-controller"

    def __init__(self, store: Store, clock: Clock, root_ca: str) -> None:
        super().__init__(store, clock)
        self._root_ca = root_ca

    def sources(self) -> Sequence[Source]:
        return [(NAMESPACE, itself), (SERVICE_ACCOUNT, self._of("default")), (CONFIG_MAP, self._of(ROOT_CA))]

    @staticmethod
    def _of(name: str) -> Any:
        def keys(event: WatchEvent) -> Keys:
            meta = event.object["metadata"]
            return [("", meta["namespace"])] if meta["name"] == name and event.type != "ADDED" else []

        return keys

    def reconcile(self, key: Key) -> float | None:
        namespace = self.store.find(NAMESPACE, "", key[1])
        if namespace is None or is_terminating(namespace):
            return None
        if self.store.find(SERVICE_ACCOUNT, key[1], "default") is None:
            self.store.create(
                SERVICE_ACCOUNT,
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key[1]}},
            )
        data = {"ca.crt": self._root_ca}
        held = self.store.find(CONFIG_MAP, key[1], ROOT_CA)
        if held is None:
            self.store.create(
                CONFIG_MAP,
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "data": data,
                    "metadata": {
                        "name": ROOT_CA,
                        "namespace": key[1],
                        "annotations": {"kubernetes.io/description": _DESCRIPTION},
                    },
                },
            )
        elif held.get("data") != data:
            self.store.mutate(CONFIG_MAP, key[1], ROOT_CA, lambda new: new.__setitem__("data", data))
        return None


_NOTHING_WRONG: Final = (
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
)


def deletion_conditions(left: dict[str, int], finalizers: dict[str, int], at: str) -> list[dict[str, Any]]:
    """The conditions of a terminating namespace; `left` counts objects by resource, `finalizers` by name."""
    found = [
        {"type": kind, "status": "False", "reason": reason, "message": message, "lastTransitionTime": at}
        for kind, reason, message in _NOTHING_WRONG
    ]
    if left:
        text = ", ".join(f"{name} has {number} resource instances" for name, number in sorted(left.items()))
        found.append(
            {
                "type": "NamespaceContentRemaining",
                "status": "True",
                "reason": "SomeResourcesRemain",
                "message": f"Some resources are remaining: {text}",
                "lastTransitionTime": at,
            }
        )
    else:
        found.append(
            {
                "type": "NamespaceContentRemaining",
                "status": "False",
                "reason": "ContentRemoved",
                "message": "All content successfully removed",
                "lastTransitionTime": at,
            }
        )
    if finalizers:
        text = ", ".join(f"{name} in {number} resource instances" for name, number in sorted(finalizers.items()))
        found.append(
            {
                "type": "NamespaceFinalizersRemaining",
                "status": "True",
                "reason": "SomeFinalizersRemain",
                "message": f"Some content in the namespace has finalizers remaining: {text}",
                "lastTransitionTime": at,
            }
        )
    else:
        found.append(
            {
                "type": "NamespaceFinalizersRemaining",
                "status": "False",
                "reason": "ContentHasNoFinalizers",
                "message": "All content-preserving finalizers finished",
                "lastTransitionTime": at,
            }
        )
    return found


class NamespaceController(Controller):
    """Deletes a terminating namespace's contents, and the namespace when it is empty."""

    name = "namespace-controller"

    def sources(self) -> Sequence[Source]:
        return [(NAMESPACE, itself), *((resource, self._emptied) for resource in RESOURCES if resource.namespaced)]

    def source_of(self, resource: Resource) -> Source | None:
        return (resource, self._emptied) if resource.namespaced else None

    def _emptied(self, event: WatchEvent) -> Keys:
        """Map a change of an object to its namespace, if that is terminating."""
        namespace = event.object["metadata"]["namespace"]
        holder = self.store.find(NAMESPACE, "", namespace)
        return [("", namespace)] if holder is not None and is_terminating(holder) and event.type != "MODIFIED" else []

    def reconcile(self, key: Key) -> float | None:
        namespace = self.store.find(NAMESPACE, "", key[1])
        if namespace is None or not is_terminating(namespace):
            return None
        self._empty(key[1])
        left = self._left(key[1])
        if not left:
            self.store.mutate(
                NAMESPACE,
                "",
                key[1],
                lambda new: new["spec"].__setitem__(
                    "finalizers", [name for name in new["spec"].get("finalizers", []) if name != "kubernetes"]
                ),
            )
            return None
        counts: dict[str, int] = {}
        finalizers: dict[str, int] = {}
        for resource, obj in left:
            counts[f"{resource.plural}." + resource.group] = counts.get(f"{resource.plural}." + resource.group, 0) + 1
            for finalizer in obj["metadata"].get("finalizers", []):
                finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
        status = namespace.get("status", {})
        conditions = deletion_conditions(counts, finalizers, stamp(self.clock.now()))
        if [(c["type"], c["message"]) for c in status.get("conditions", [])] != [
            (c["type"], c["message"]) for c in conditions
        ]:
            self.set_status(NAMESPACE, namespace, {**status, "phase": "Terminating", "conditions": conditions})
        return None

    def _left(self, namespace: str) -> list[tuple[Any, Object]]:
        return [
            (resource, obj)
            for resource in self.store.kinds.stored()
            if resource.namespaced
            for obj in self.store.list(resource, namespace)
        ]

    def _empty(self, namespace: str) -> None:
        # owners before pods, or they would make new ones
        kinds = [resource for resource in self.store.kinds.stored() if resource.namespaced]
        for resource in sorted(kinds, key=lambda one: (one is POD, one.group == "")):
            for obj in self.store.list(resource, namespace):
                if not is_terminating(obj) and self.store.find(resource, *key_of(obj)) is not None:
                    self.delete(resource, obj)
