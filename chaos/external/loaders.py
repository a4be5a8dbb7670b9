"""The loaders of a target: one of our pods beside one of each client's, in its namespace, on its node, under its
account.

Its traffic passes what the client's passes, and it measures, so the flows that are judged are the loader's: in the
placement it stands as a client of its own. Everything else of the tenants is left as it is. Pure;
`chaos.external.mesh` applies it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from chaos.errors import ExperimentFailure, Misuse, NotReady
from chaos.external.description import LoaderRule, MeshDescription, annotations_of, labels_of
from chaos.external.file import Call, TargetSystem
from chaos.external.routes import RouteContext, name_of, why_not_carried
from chaos.kube.client import Cluster
from chaos.kube.objects import RESTRICTED, is_live, workload_name
from chaos.names import GROUP, IMAGE, KEEP_IN_PLACE, LABEL_ROLE, LABEL_RUN, LABEL_TENANT, PORT_CONTROL

Object = Mapping[str, Any]
_PREFIX: Final = "sharedfate-"
_TEMPLATE: Final = "pod-template-hash"
# Of a pod's spec: where it pulls images from, which names it looks up, and in whose group it runs.
_TWIN: Final = ("imagePullSecrets", "dnsPolicy", "dnsConfig", "hostAliases", "priorityClassName")
_TOKEN: Final = "kube-api-access-"  # of the client's own account: nothing in the loader's pod asks the API server


def loader_name(client: str) -> str:
    """Return the name of the loader beside a client workload (namespace/name)."""
    return f"{_PREFIX}{client.partition('/')[2]}"[:63].rstrip("-.")


def loaded(target: TargetSystem) -> TargetSystem:
    """Return the target with its loaders in their clients' places, and only the loaded calls. Raises Misuse when there
    are none.
    """
    calls = tuple(_by_loader(call) for call in target.calls if call.loaded)
    if not calls:
        raise Misuse(
            "no call of the target file says how its server is reached (reach: HOST:PORT): there is nothing to load"
        )
    return replace(target, calls=calls)


def _by_loader(call: Call) -> Call:
    return replace(call, client=f"{call.namespaces[0]}/{loader_name(call.client)}")


def plan_loaders(
    target: TargetSystem, rule: LoaderRule, pods: Iterable[Object], *, run: str, services: Sequence[Object] = ()
) -> list[dict[str, Any]]:
    """A pod for each client that is to be loaded from. `pods`, `services`: of the tenants. Raises when a client has no
    live pod, or when two clients would have loaders of one name."""
    live = sorted((pod for pod in pods if is_live(pod)), key=lambda pod: str(pod["metadata"]["name"]))
    planned: dict[str, dict[str, Any]] = {}
    for client in dict.fromkeys(call.client for call in target.calls if call.loaded):
        namespace = client.partition("/")[0]
        beside = next((pod for pod in live if f"{pod['metadata']['namespace']}/{workload_name(pod)}" == client), None)
        if beside is None:
            raise ExperimentFailure(f"no live pod of {client}: its loader cannot be placed")
        name = f"{namespace}/{loader_name(client)}"
        if name in planned:
            raise Misuse(
                f"{client}: its loader would be named {name}, as another's: the names agree in their first 50 letters"
            )
        planned[name] = plan_loader(client, target.tenant_of(namespace), beside, rule, run=run, services=services)
    return list(planned.values())


def plan_loader(
    client: str, tenant: str, beside: Object, rule: LoaderRule, *, run: str, services: Sequence[Object] = ()
) -> dict[str, Any]:
    """The loader's pod, the twin of one of the client's: with its marks of the mesh and labels of policies,
    on the same node, under the same account, with the same secrets to pull by, the same names to look up. Raises Misuse
    when the client has none of a container that is to be copied.
    """
    spec = beside["spec"]
    containers, first, volumes = _copied(client, spec, rule.containers)
    program = {
        "name": "client",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "chaos.load.agent"],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "WORKLOAD", "value": loader_name(client)},
        ],
        "ports": [{"name": "control", "containerPort": PORT_CONTROL}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": PORT_CONTROL}, "periodSeconds": 1},
        # A limit of at most five times the request: usual LimitRanges have a maxLimitRequestRatio of 10 or more.
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
        "securityContext": {**RESTRICTED, **_user(spec)},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": loader_name(client),
            "namespace": client.partition("/")[0],
            "labels": {
                **_policy_labels(beside, services),
                **_of_mesh(labels_of(beside), rule),
                **rule.labels,
                LABEL_RUN: run,
                LABEL_TENANT: tenant,
                LABEL_ROLE: "client",
            },
            "annotations": {
                **_of_mesh(annotations_of(beside), rule),
                **KEEP_IN_PLACE,
                **rule.annotations,
                **_ports(beside, rule),
            },
        },
        "spec": {
            "serviceAccountName": spec.get("serviceAccountName", "default"),
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 5,
            "tolerations": spec.get("tolerations") or [],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [spec["nodeName"]]}]}
                        ]
                    }
                }
            },
            "containers": [program, *containers],
            **({"initContainers": first} if first else {}),
            **({"volumes": volumes} if volumes else {}),
            **({"readinessGates": [{"conditionType": gate} for gate in rule.gates]} if rule.gates else {}),
            **{name: spec[name] for name in _TWIN if spec.get(name)},
        },
    }


def _user(spec: Object) -> dict[str, int]:
    """Return the user of the client's first container, which a mesh may exempt from capture; never root."""
    contexts = [spec.get("securityContext") or {}, (spec["containers"] or [{}])[0].get("securityContext") or {}]
    return {
        name: int(found[-1])
        for name in ("runAsUser", "runAsGroup")
        if (found := [one[name] for one in contexts if name in one]) and found[-1]
    }


def _of_mesh(marks: Mapping[str, str], rule: LoaderRule) -> dict[str, str]:
    """Return the client's labels or annotations that decide how the mesh carries it."""
    return {
        key: value
        for key, value in marks.items()
        if key not in rule.not_copied
        and any(key.startswith(one[:-1]) if one.endswith("*") else key == one for one in rule.copied)
    }


def _ports(beside: Object, rule: LoaderRule) -> dict[str, str]:
    """Return the control port added to the ports that already bypass the client's proxy."""
    if not rule.ports:
        return {}
    there = annotations_of(beside).get(rule.ports, "")
    return {rule.ports: ",".join([*([there] if there else []), str(PORT_CONTROL)])}


def _policy_labels(beside: Object, services: Sequence[Object]) -> dict[str, str]:
    """Return the client's labels that policies select it by, without those by which a Service would send requests to
    the loader, or a controller adopt it: only a Deployment's pods have a label that prevents that.
    """
    labels = dict(labels_of(beside))
    if labels.pop(_TEMPLATE, None) is None:
        return {}
    for service in services:
        wanted = service["spec"].get("selector") or {}
        same = service["metadata"]["namespace"] == beside["metadata"]["namespace"]
        if same and wanted and all(labels.get(key) == value for key, value in wanted.items()):
            labels = {key: value for key, value in labels.items() if key not in wanted}
    return {key: value for key, value in labels.items() if not key.startswith(f"{GROUP}/")}


def carried_otherwise(mesh: MeshDescription, client: Object, loader: Object, around: RouteContext) -> str:
    """Return how the mesh carries a loader differently from its client, by the mesh's own signs; "" when it does
    not.

    What such a loader sees is not what its client sees, so nothing that it measures says anything of the mesh.
    """
    words = []
    for rule in (rule for rule in mesh.rules if rule.binding is None):
        why = {name_of(pod): why_not_carried(rule, pod, around) for pod in (client, loader)}
        if len({bool(reason) for reason in why.values()}) == 2:
            words.append(f"{rule.name}: {next(reason for reason in why.values() if reason)}")
    if not words:
        return ""
    return f"{name_of(loader)} is not carried as its client's {name_of(client)} is: {'; '.join(words)}"


def await_carried(cluster: Cluster, otherwise: Callable[[], list[str]], *, seconds: float) -> None:
    """Wait until every loader is carried as its client is; raises NotReady that says what differs, and what to
    look at.
    """
    found: list[str] = []

    def alike() -> bool:
        found[:] = otherwise()
        return not found

    try:
        cluster.wait("every loader is carried as its client is", alike, seconds=seconds)
    except NotReady as error:
        raise NotReady(
            f"{error}: {'; '.join(found)}. What such a loader measures says nothing of the mesh, so nothing is judged: "
            "was it injected or enrolled (the mesh's webhook, its labels on the client's template)?"
        ) from error


def _copied(client: str, spec: Object, names: Sequence[str]) -> tuple[list[Any], list[Any], list[Any]]:
    """(containers, init containers, volumes) of the client's pod that are to stand in the loader's too."""

    def chosen(part: str) -> list[dict[str, Any]]:
        return [
            {
                **one,
                "volumeMounts": [
                    mount for mount in one.get("volumeMounts") or [] if not mount["name"].startswith(_TOKEN)
                ],
            }
            for one in spec.get(part) or []
            if one["name"] in names
        ]

    containers, first = chosen("containers"), chosen("initContainers")
    if missing := sorted(set(names) - {one["name"] for one in (*containers, *first)}):
        raise Misuse(f"loader.containers has {', '.join(missing)}, and the pods of {client} have no such container")
    mounted = {mount["name"] for one in (*containers, *first) for mount in one["volumeMounts"]}
    return containers, first, [volume for volume in spec.get("volumes") or [] if volume["name"] in mounted]
