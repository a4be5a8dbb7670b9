"""Changes to a running mesh that are no roll-out of its proxies: a tenant's waypoint that is taken away, comes, or
moves to another node, a tenant that leaves the mesh and comes back, another root of all certificates. Each returns when
every proxy has taken it.

The suite watches what each costs (`chaos.engine.upgrade`): which applications restart, which requests are lost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from chaos.engine.targets import WHOLE_POD, proxy_on_path, workload_of
from chaos.engine.trial import Trial
from chaos.errors import ExperimentFailure
from chaos.faults.workload import rolled_out
from chaos.kube.objects import is_ready_pod
from chaos.kube.placement import is_captured
from chaos.mesh.authority import store_succession, stored_authority
from chaos.mesh.ca import Authority
from chaos.mesh.install import is_behind
from chaos.mesh.manifests import name_terms
from chaos.model.fate import identities_held
from chaos.model.modes import Layer
from chaos.model.placement import Placement, Proxy
from chaos.names import LABEL_MESH, LABEL_MODE, LABEL_WAYPOINT, NO_WAYPOINT, spiffe_id
from chaos.verdict.check import Check, decided

Page = Mapping[str, Any]  # of the control plane, /debug
Held = tuple[str, str]  # a proxy's UID, a SPIFFE id
_KEY: Final = "public_key_sha256"
SECONDS: Final = 60.0  # longest wait for a change


def set_waypoint(trial: Trial, *, used: bool) -> None:
    """Put the first tenant's Service and its pods behind their waypoint, or past it; by labels, as on a real mesh."""
    tenant, cluster = trial.deployment.tenants[0], trial.cluster
    label = {"metadata": {"labels": {LABEL_WAYPOINT: None if used else NO_WAYPOINT}}}

    def change() -> None:
        service = cluster.get("Service", tenant.server.partition("/")[2], tenant.namespace)
        selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
        for pod in cluster.list("Pod", tenant.namespace, labels=selector):
            cluster.patch("Pod", pod["metadata"]["name"], label, tenant.namespace)
        cluster.patch("Service", service["metadata"]["name"], label, tenant.namespace)

    _taken(trial, change)


def set_enrolled(trial: Trial, *, enrolled: bool) -> None:
    """Let the first tenant's namespace leave the mesh, or join it; its pods stay as they are."""
    tenant, cluster, mode = trial.deployment.tenants[0], trial.cluster, trial.mesh.mode
    labels = {LABEL_MESH: "enabled", LABEL_MODE: mode.name} if enrolled else {LABEL_MESH: None, LABEL_MODE: None}

    def change() -> None:
        cluster.patch("Namespace", tenant.namespace, {"metadata": {"labels": labels}})
        applications = {pod.name for pod in trial.placement.pods if pod.namespace == tenant.namespace}

        def done() -> bool:
            pods = [one for one in cluster.list("Pod", tenant.namespace) if one["metadata"]["name"] in applications]
            return all(is_captured(pod) is enrolled and is_ready_pod(pod) for pod in pods)

        what = f"every pod of {tenant.namespace} is {'captured' if enrolled else 'released'}"
        cluster.wait(what, done, seconds=SECONDS, every=0.1)

    _taken(trial, change)


def renewed(held: Collection[Held], before: Page, after: Page, issuer: str) -> Check:
    """Judge by the control plane's log before and after that each proxy was given a new key for each of its identities,
    from that root. Pure.

    Args:
        held: what proxies hold, by the model.
        issuer: the fingerprint of the root's public key.
    """
    old, new = _newest(before), _newest(after)
    missing = [one for one in held if one not in new]
    kept = [one for one in held if one in new and new[one][_KEY] == old.get(one, {}).get(_KEY)]
    foreign = [one for one in held if one in new and new[one]["issuer_sha256"] != issuer]
    return decided(
        "every certificate is new",
        bool(held) and not kept and not foreign and not missing,
        f"of {len(held)} certificates {len(missing)} were not issued, {len(kept)} kept, {len(foreign)} of another root",
        len(held) - len(kept) - len(missing),
        "certificates",
    )


def held_by(placement: Placement) -> set[Held]:
    """Return the identities of each proxy, by the model. Pure."""
    return {
        (proxy.uid, spiffe_id(*identity))
        for proxy in placement.proxies
        for identity in identities_held(placement, proxy)
    }


def _newest(page: Page) -> dict[Held, Mapping[str, Any]]:
    """Return the last certificate that each proxy was given for each identity. Pure."""
    return {(line["proxy_uid"], line["identity"]): line for line in page["identities"] if not line["refused"]}


def rotate_root(trial: Trial, restart: Callable[[], None]) -> str:
    """Let another root follow the mesh's, step by step, so that no member meets one that it does not trust. Return the
    fingerprint of its public key.

    Args:
        restart: rolls the control plane out, which takes each step up.
    """
    old, new = stored_authority(trial.cluster, run=trial.mesh.run), Authority.new()
    for issuing, also in ((old, new.root_pem), (new, old.root_pem), (new, b"")):
        connected = _connected(trial)
        store_succession(trial.cluster, issuing=issuing, also=also, plane=old)
        restart()
        trial.cluster.wait(
            "every proxy is connected to the new control plane, and has its certificates",
            lambda connected=connected: connected <= _connected(trial),  # type: ignore[misc]
            seconds=SECONDS,
            every=0.1,
        )
    return new.fingerprint


def _connected(trial: Trial) -> set[str]:
    """The UIDs of the proxies that are connected to the control plane, and have acknowledged all that it pushed."""
    page = trial.deployment.reference_mesh.control_plane()
    return {one["uid"] for one in page["proxies"] if not is_behind(one)}


def move_waypoint(trial: Trial) -> None:
    """Roll the first tenant's waypoint out to another node."""
    waypoint = _waypoint(trial)
    target = workload_of(trial.cluster, waypoint)
    others = sorted({pod.node for pod in trial.placement.pods} - {waypoint.node})
    if not others:
        raise ExperimentFailure(f"{waypoint}: the tenants lie on its node alone: there is none to move it to")
    trial.excused.add((waypoint.uid, WHOLE_POD))
    affinity = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": name_terms(others)}}
    template = {"spec": {"affinity": {"nodeAffinity": affinity}}}

    def change() -> None:
        trial.cluster.patch(target.workload_kind, target.name, {"spec": {"template": template}}, target.namespace)
        trial.cluster.wait(
            f"{target} is rolled out",
            lambda: rolled_out(trial.cluster.get(target.workload_kind, target.name, target.namespace)),
            seconds=SECONDS,
            every=0.1,
        )

    _taken(trial, change)


def _waypoint(trial: Trial) -> Proxy:
    """The proxy of layer 7 before the first tenant's servers."""
    found = proxy_on_path(trial.placement, server=trial.deployment.tenants[0].server, layer=Layer.L7)
    if found is None:
        raise ExperimentFailure(f"mode {trial.mesh.mode.name}: no proxy of layer 7 on the first tenant's path")
    return found


def _taken(trial: Trial, change: Callable[[], None]) -> None:
    """Do it, and wait until every connected proxy has acknowledged what follows from it."""
    mesh = trial.deployment.reference_mesh
    before = float(mesh.control_plane()["snapshot_at"])
    change()
    mesh.await_taken(since=before, seconds=SECONDS)
