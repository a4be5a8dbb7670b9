"""Kubernetes' admission plugins NamespaceLifecycle, ServiceAccount, Priority, DefaultTolerationSeconds, RuntimeClass
and TaintNodesByCondition.

They change only the object given and read the store; called by admission.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chaos.embedded.api.errors import Cause, forbidden, not_found
from chaos.embedded.resources import NAMESPACE, POD, PRIORITY_CLASS, SERVICE_ACCOUNT, Resource
from chaos.embedded.store import Store, random_suffix

Json = dict[str, Any]


NOT_READY: Final = "node.kubernetes.io/not-ready"
TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


def check_namespace(store: Store, resource: Resource, meta: Mapping[str, Any]) -> None:
    """Refuse a new object in a missing or terminating namespace. Raises StatusError 404 or 403."""
    name = meta.get("namespace", "")
    namespace = store.find(NAMESPACE, "", name)
    if namespace is None:
        raise not_found(NAMESPACE, name)
    if "deletionTimestamp" in namespace["metadata"] and resource.kind != "Event":
        raise forbidden(
            resource,
            meta.get("name", ""),
            f"unable to create new content in namespace {name} because it is being terminated",
            cause=Cause("NamespaceTerminating", "metadata.namespace", f"namespace {name} is being terminated"),
        )


def admit_pod(store: Store, pod: Json) -> None:
    """Set the service account, its token, priority, and tolerations of an unreachable node."""
    spec, meta = pod["spec"], pod["metadata"]
    name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    namespace = meta.get("namespace", "")
    account = store.find(SERVICE_ACCOUNT, namespace, name)
    if account is None:
        if store.find(NAMESPACE, "", namespace) is None:
            raise not_found(NAMESPACE, namespace)
        check_namespace(store, POD, meta)
        raise forbidden(
            POD,
            meta.get("name") or meta.get("generateName", ""),
            f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found',
        )
    if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
        _mount_token(spec)
    if account.get("imagePullSecrets") and not spec.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    _priority(store, pod)
    tolerate_short_absence(spec)
    _runtime_class(pod)


def _runtime_class(pod: Json) -> None:
    """Refuse classes of runtimes, of which there are none, and overhead, which only they may set."""
    if name := pod["spec"].get("runtimeClassName"):
        raise forbidden(POD, pod["metadata"].get("name", ""), f'pod rejected: RuntimeClass "{name}" not found')
    if pod["spec"].get("overhead"):
        why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        raise forbidden(POD, pod["metadata"].get("name", ""), why)


def taint_new_node(node: Json) -> None:
    """A node is not ready until its kubelet says so."""
    taints = node.setdefault("spec", {}).setdefault("taints", [])
    if not any(one.get("key") == NOT_READY for one in taints):
        taints.append({"key": NOT_READY, "effect": "NoSchedule"})


def tolerate_short_absence(spec: Json) -> None:
    """Tolerate a missing or not-ready node for five minutes, unless the pod sets it otherwise."""
    tolerations = spec.setdefault("tolerations", [])
    for key in (NOT_READY, "node.kubernetes.io/unreachable"):
        if not any(
            t.get("key") in (key, None, "") and t.get("effect", "NoExecute") in ("NoExecute", "") for t in tolerations
        ):
            tolerations.append({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300})


def _mount_token(spec: Json) -> None:
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    bare = [c for c in containers if not any(m.get("mountPath") == TOKEN_PATH for m in c.get("volumeMounts") or [])]
    if not bare:
        return
    volumes = spec.setdefault("volumes", [])
    name = next((v["name"] for v in volumes if str(v.get("name", "")).startswith("kube-api-access-")), "")
    if not name:
        name = f"kube-api-access-{random_suffix()}"
        volumes.append(
            {
                "name": name,
                "projected": {
                    "defaultMode": 420,
                    "sources": [
                        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                        {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
                        {
                            "downwardAPI": {
                                "items": [
                                    {
                                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                                        "path": "namespace",
                                    }
                                ]
                            }
                        },
                    ],
                },
            }
        )
    for container in bare:
        container.setdefault("volumeMounts", []).append({"mountPath": TOKEN_PATH, "name": name, "readOnly": True})


def _priority(store: Store, pod: Json) -> None:
    spec = pod["spec"]
    name = spec.get("priorityClassName")
    if name:
        chosen = store.find(PRIORITY_CLASS, "", name)
        if chosen is None:
            raise forbidden(POD, pod["metadata"].get("name", ""), f"no PriorityClass with name {name} was found")
    else:
        chosen = next((one for one in store.list(PRIORITY_CLASS) if one.get("globalDefault")), None)
        if chosen is not None:
            spec["priorityClassName"] = chosen["metadata"]["name"]
    computed = chosen.get("value", 0) if chosen is not None else 0
    policy = (chosen or {}).get("preemptionPolicy", "PreemptLowerPriority")
    by = "must not be provided in pod spec; priority admission controller computed"
    for field, what, given, wanted in (
        ("priority", "integer value of priority", spec.get("priority"), computed),
        ("preemptionPolicy", "string value of PreemptionPolicy", spec.get("preemptionPolicy"), policy),
    ):
        if given not in (None, wanted):
            why = f"the {what} ({given}) {by} {wanted} from the given PriorityClass name"
            raise forbidden(POD, pod["metadata"].get("name", ""), why)
        spec[field] = wanted
