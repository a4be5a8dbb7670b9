"""A preflight: tries what a run needs from a cluster in namespaces of its own, and removes them again.

Real pods of each kind that is needed go through the real admission, scheduler, image pull and network; samples are
fetched from a pod's port (by which way, is chosen here), one command goes through exec. What refuses answers in its own
words. `sharedfate doctor --try` asks for all kinds, a run for those that its modes and faults need.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import urllib3

from chaos.build import unlike
from chaos.control_key import ControlKey
from chaos.doctor.tried import ESSENTIAL, PodKind, Tried
from chaos.errors import AlreadyExists, ApiError, EnvironmentUnfit, NotReady, SharedfateError
from chaos.kube.access import Permission, is_allowed
from chaos.kube.applying import in_parallel, is_ready
from chaos.kube.client import Cluster
from chaos.kube.kubeconfig import one_line
from chaos.kube.nodes import NodeChoice
from chaos.kube.objects import RESTRICTED
from chaos.kube.readiness import AwaitedWorkload, await_ready, with_remedy
from chaos.load.client import LoaderClient, choose_way
from chaos.mesh import manifests
from chaos.mesh.inject import told_digests
from chaos.names import IMAGE, LABEL_POD_SECURITY, LABEL_ROLE, LABEL_RUN, NAME, PORT_CONTROL, PORT_HTTP

Object = dict[str, Any]
PLAIN: Final = f"{NAME}-preflight"  # as tenants' namespaces are
PRIVILEGED: Final = f"{NAME}-preflight-privileged"  # as the system namespace is, and tenants' where capture needs it
READY_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 5.0
_POLICY_SECONDS: Final = 4.0  # within which a network plugin has taken a policy up
_SERVICE_SECONDS: Final = 15.0  # within which a Service that was just made is known to DNS and on every node
_GONE_SECONDS: Final = 60.0
INOTIFY_ENOUGH: Final = 256  # instances of one user on a kernel; kind's nodes share it, and 128 are soon used up


@dataclass(slots=True)
class _Site:
    cluster: Cluster
    choice: NodeChoice
    run: str
    kinds: Collection[PodKind]
    key: ControlKey = field(default_factory=ControlKey.new)
    refused: dict[PodKind, str] = field(default_factory=dict)
    no_service: str = ""  # why the API server takes none
    made: list[str] = field(default_factory=list)  # namespaces: these alone are taken down
    opened: bool = False


def preflight(cluster: Cluster, choice: NodeChoice, kinds: Collection[PodKind], *, run: str) -> Tried:
    """Run the preflight. It leaves nothing behind, however it ends.

    Args:
        choice: of two nodes at least; both are tried.
        run: value of the label on all that is made.

    """
    begin = time.monotonic()
    site = _Site(cluster, choice, run, frozenset(kinds) | ESSENTIAL)
    try:
        if refused := _make_namespaces(site):
            tried = Tried({}, namespaces=refused)
        else:
            _make_service(site)
            _await_pods(site, _make_pods(site))
            tried = _speak(site)
    finally:
        for name in site.made:
            cluster.delete("Namespace", name)
    return replace(
        tried,
        kinds={kind: site.refused.get(kind, "") for kind in site.kinds},
        opens=site.opened,
        seconds=time.monotonic() - begin,
    )


# ---- plans


def plan_namespace(name: str, level: str, run: str) -> Object:
    """A namespace of the preflight's, held to one of Pod Security's levels."""
    labels = {LABEL_RUN: run, LABEL_POD_SECURITY: level}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


_CONTEXTS: Final[Mapping[PodKind, Object]] = {
    PodKind.APP: RESTRICTED,
    PodKind.LOADER: RESTRICTED,
    PodKind.CAPTURE: {"runAsUser": 0, "runAsNonRoot": False, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}},
    PodKind.AGENT: {"privileged": True, "runAsUser": 0},
    PodKind.HELPER: {"privileged": True, "runAsUser": 0},
}
_PROGRAMS: Final[Mapping[PodKind, str]] = {PodKind.APP: "chaos.apps.server", PodKind.LOADER: "chaos.load.agent"}


def plan_pod(kind: PodKind, nodes: Sequence[str], *, run: str) -> Object:
    """Metadata and spec of a pod as those of that kind are."""
    name = kind.name.lower()
    container: Object = {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", _PROGRAMS[kind]] if kind in _PROGRAMS else ["sleep", "600"],
        "securityContext": _CONTEXTS[kind],
        "resources": {"requests": {"cpu": "30m", "memory": "64Mi"}, "limits": {"cpu": "300m", "memory": "256Mi"}},
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
    }
    if kind in _PROGRAMS:
        container["ports"] = [{"containerPort": PORT_CONTROL}]
        container["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": PORT_CONTROL}, "periodSeconds": 1}
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    if kind is PodKind.HELPER:  # past the scheduler, as a fault's helper is
        spec |= {"nodeName": nodes[0], "tolerations": [{"operator": "Exists"}], "restartPolicy": "Never"}
    else:
        terms = manifests.name_terms(nodes)
        spec["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        }
    if kind in (PodKind.AGENT, PodKind.HELPER):
        spec["hostPID"] = True
    return {"metadata": {"labels": {"app": name, LABEL_ROLE: "preflight", LABEL_RUN: run}}, "spec": spec}


def plan_workload(kind: PodKind, nodes: Sequence[str], *, run: str) -> Object:
    """The object whose controller makes such pods; a helper is a pod by itself."""
    name = kind.name.lower()
    namespace = PLAIN if kind in _PROGRAMS else PRIVILEGED
    pod = plan_pod(kind, nodes, run=run)
    meta = {"name": name, "namespace": namespace, "labels": {LABEL_RUN: run}}
    if kind is PodKind.HELPER:
        pod["metadata"] = {**pod["metadata"], "name": name, "namespace": namespace}
        return {"apiVersion": "v1", "kind": "Pod", **pod}
    spec: Object = {"selector": {"matchLabels": {"app": name}}, "template": pod}
    if kind is not PodKind.AGENT:
        spec["replicas"] = 1
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet" if kind is PodKind.AGENT else "Deployment",
        "metadata": meta,
        "spec": spec,
    }


def plan_service(*, run: str) -> Object:
    """The application's Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "app", "namespace": PLAIN, "labels": {LABEL_RUN: run}},
        "spec": {"selector": {"app": PodKind.APP.name.lower()}, "ports": [{"port": PORT_HTTP}]},
    }


def plan_policy(*, run: str) -> Object:
    """A NetworkPolicy that lets nobody in to the pods of the plain namespace."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "preflight", "namespace": PLAIN, "labels": {LABEL_RUN: run}},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


# ---- steps


def _make_namespaces(site: _Site) -> str:
    """Create them once those of an earlier preflight are gone; return what refuses one, "" when both are there."""
    try:
        await_gone(site.cluster)
        for name, level in ((PLAIN, "restricted"), (PRIVILEGED, "privileged")):
            if other := site.cluster.find("Namespace", name):
                return _taken(other)
            site.made.append(name)
            site.cluster.create(plan_namespace(name, level, site.run), unique=True)
    except AlreadyExists:  # made since we looked
        return _taken(site.cluster.get("Namespace", site.made.pop()))
    except NotReady as error:
        return one_line(error)
    except ApiError as error:
        return _refusal(error)
    return ""


def _taken(namespace: Object) -> str:
    meta = namespace["metadata"]
    other = (meta.get("labels") or {}).get(LABEL_RUN, "of somebody else")
    return (
        f"namespace {meta['name']} already exists (run {other}): another doctor or run tries this cluster, or was "
        "ended while it did. Once it is over, or after `sharedfate clean`, try again"
    )


def _refusal(error: ApiError) -> str:
    """What the API server says of what it refuses, and what to do about it."""
    return with_remedy(one_line(error.status.get("message") or error))


def _make_service(site: _Site) -> None:
    """Before the pods, so that DNS knows it by the time that it is asked: names that are not there are remembered."""
    try:
        site.cluster.apply(plan_service(run=site.run))
    except ApiError as error:
        site.no_service = _refusal(error)


def _make_pods(site: _Site) -> dict[PodKind, AwaitedWorkload]:
    """Create the pods; record what the API server itself refuses."""
    first, second = site.choice.names[0], site.choice.names[1]
    where = {PodKind.APP: [first], PodKind.LOADER: [second], PodKind.CAPTURE: [first]}
    made: dict[PodKind, AwaitedWorkload] = {}
    for kind in site.kinds:
        obj = plan_workload(kind, where.get(kind, [first, second]), run=site.run)
        try:
            site.cluster.apply(*told_digests([obj], site.key))
        except ApiError as error:
            site.refused[kind] = _refusal(error)
            continue
        made[kind] = AwaitedWorkload(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
    return made


def _await_pods(site: _Site, made: Mapping[PodKind, AwaitedWorkload]) -> None:
    """Wait until all are ready; record the causes of those that are not."""

    def wait(kind: PodKind) -> None:
        try:
            await_ready(site.cluster, [made[kind]], is_ready, seconds=READY_SECONDS)
        except (NotReady, ApiError) as error:
            site.refused[kind] = one_line(error)

    in_parallel(wait, list(made))


def _speak(site: _Site) -> Tried:
    """A way to samples, one request between pods, one exec; the kinds of pods are not in it."""
    if any(site.refused.get(kind) for kind in ESSENTIAL):
        return Tried({})
    cluster = site.cluster
    app, loader = (_pod(cluster, name) for name in ("app", "loader"))
    name = loader["metadata"]["name"]
    client = LoaderClient.of(cluster, PLAIN, name, key=site.key)
    notes = _open_what_is_shut(site)
    try:
        way = choose_way(cluster, PLAIN, name, key=site.key)
    except EnvironmentUnfit as error:
        return Tried({}, control=str(error), notes=notes)
    if other := unlike(client.build()):
        return Tried({}, control="", image=other, notes=notes)
    looked, ended = _look(cluster, name)
    notes = (*([way] if way else []), *notes, *looked)
    address = str(app["status"].get("podIP", ""))
    network = _reaches(client, address) or _reaches_by_service(site, client)
    policies = None if network else _policies_act(site, client, address)
    return Tried({}, control="", network=network, exec=ended, policies=policies, notes=notes)


def _open_what_is_shut(site: _Site) -> tuple[str, ...]:
    """Open the namespaces where policies that are not ours came with them; a note that names those."""
    try:
        shut = [policy["metadata"]["name"] for policy in site.cluster.list("NetworkPolicy", PLAIN)]
    except ApiError:
        return ()
    if not shut:
        return ()
    for policy in manifests.open_policies((PLAIN, PRIVILEGED), site.run):
        try:
            site.cluster.create(policy)
        except ApiError as error:
            return (f"each new namespace gets NetworkPolicy {', '.join(shut)}, and may not be opened: {error}",)
    site.opened = True
    return (f"each new namespace gets NetworkPolicy {', '.join(shut)}: one that opens it is put into each of ours",)


_EXEC: Final = Permission("create", "pods/exec")
_LOOK: Final = (
    "import json,platform,pathlib\n"
    "f=pathlib.Path('/proc/sys/fs/inotify/max_user_instances')\n"
    "print(json.dumps({'machine':platform.machine(),'inotify':int(f.read_text()) if f.exists() else None}))"
)


def _look(cluster: Cluster, pod: str) -> tuple[tuple[str, ...], str]:
    """Return what a command in a pod reports of its node, and why it could not."""
    if not is_allowed(cluster, _EXEC):
        return (), f"you may not {_EXEC}"
    try:
        done = cluster.exec(PLAIN, pod, ["python", "-c", _LOOK], seconds=20)
        if done.code:
            return (), f"exit code {done.code}: {one_line(ValueError(done.stderr))}"
        seen = json.loads(done.stdout)
    except (SharedfateError, OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        return (), one_line(error)
    if seen["inotify"] is not None and seen["inotify"] < INOTIFY_ENOUGH:
        return (
            f"fs.inotify.max_user_instances is {seen['inotify']} for all pods of a kernel, and kind's nodes share one: "
            'when kubelets or proxies say "too many open files", raise it: sysctl fs.inotify.max_user_instances=512',
        ), ""
    return (), ""


def _reaches(client: LoaderClient, address: str) -> str:
    """Why a loader gets no answer from an application's port; "" when it does."""
    if ":" in address:
        return f"pods have IPv6 addresses ({address}), and only IPv4 is supported"
    if _answers(client, address, "open", seconds=_ANSWER_SECONDS):
        return ""
    return (
        f"a loader in namespace {PLAIN} gets no answer from {address}:{PORT_HTTP} of another pod there: does a "
        "NetworkPolicy that is made in each new namespace, or for the whole cluster, shut it?"
    )


def _reaches_by_service(site: _Site, client: LoaderClient) -> str:
    """Why a loader gets no answer from an application by its Service's name; "" when it does."""
    if site.no_service or _answers(client, "app", "by-service", seconds=_SERVICE_SECONDS):
        return site.no_service
    return (
        f"a loader in namespace {PLAIN} gets an answer from another pod there at its address, and none from it by its "
        "Service, app: do the cluster's DNS and kube-proxy (or what is in its place) run on every node?"
    )


def _answers(client: LoaderClient, address: str, name: str, *, seconds: float) -> bool:
    """Whether a flow of new connections is answered within that time."""
    flow = {"name": name, "server": f"{PLAIN}/app", "target": f"{address}:{PORT_HTTP}", "rate": 10.0, "timeout": 1.0}
    client.set_flows([flow])
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if (client.flow(name) or {}).get("ok"):
                return True
            time.sleep(0.1)
        return False
    finally:
        client.set_flows([{**flow, "rate": 0.0}])


def _policies_act(site: _Site, client: LoaderClient, address: str) -> bool | None:
    """Whether a policy that lets nobody in is seen to act; None when none may be made, or another opens all."""
    if site.opened:
        return None
    try:
        site.cluster.create(plan_policy(run=site.run))
    except ApiError:
        return None
    end, number = time.monotonic() + _POLICY_SECONDS, 0
    while time.monotonic() < end:  # a connection that is open may stay: each look makes new ones
        number += 1
        if not _answers(client, address, f"barred-{number}", seconds=0.8):
            return True
    return False


def _pod(cluster: Cluster, app: str) -> Object:
    pods = cluster.list("Pod", PLAIN, labels=f"app={app}")
    return next(pod for pod in pods if "deletionTimestamp" not in pod["metadata"])


def await_gone(cluster: Cluster) -> None:
    """Wait some seconds until those of a preflight's namespaces that are ending are gone; raises NotReady."""

    def ending(name: str) -> bool:
        found = cluster.find("Namespace", name)
        return found is not None and "deletionTimestamp" in found["metadata"]

    cluster.wait(
        "the preflight's namespaces are gone",
        lambda: not any(ending(name) for name in (PLAIN, PRIVILEGED)),
        seconds=_GONE_SECONDS,
        every=0.2,
    )
