"""A cluster that is not ours, reached through its kubeconfig alone, under exactly the runner's role: a run, a rehearsal
of what else the suite does, and the API server's audit log held against the roles."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.cluster.consent import Consent
from chaos.cluster.providers import connect
from chaos.doctor.access import expand, needed, rules_in
from chaos.doctor.facts import read_facts
from chaos.engine.clean import remove_runs
from chaos.engine.recorder import Recorder
from chaos.errors import ApiError
from chaos.external import parse_target, read_target_placement
from chaos.faults.injection import begin, injected
from chaos.faults.kill import Kill
from chaos.faults.model import Target
from chaos.faults.pause import Pause
from chaos.faults.receipts import open_receipts
from chaos.faults.scale import Scale
from chaos.faults.selection import container_target
from chaos.faults.throttle import Throttle
from chaos.kube.access import Permission
from chaos.kube.client import Cluster
from chaos.load.client import LoaderClient
from chaos.mesh import manifests
from chaos.mesh.install import Mesh
from chaos.model.fate import flow_shares
from chaos.names import IMAGE, LABEL_ROLE, PROXY_CONFIG, SYSTEM_NAMESPACE
from tests.stranger.audit import Entry, entries, used
from tests.stranger.clusters import CONTEXT, RUNNER, Stranger, command, stranger

pytestmark = pytest.mark.privileged

CONTROL_PLANE = "system:serviceaccount:sharedfate-system:control-plane"
WATCHDOG = "system:serviceaccount:sharedfate-system:watchdog"
AGENT = "system:serviceaccount:sharedfate-system:node-proxy"
# Only met when a proxy's stream comes before the watch's event of its pod: a race that no test can force.
RACES = {CONTROL_PLANE: {Permission("get", "pods", "")}}
# What the watchdog needs for faults that are never injected in a cluster of another (whole nodes), or that act on other
# kinds of workload and on a loader: exercised where those faults are.
ELSEWHERE = (
    {Permission(verb, "nodes", "") for verb in ("get", "list", "patch")}
    | {Permission(verb, kind, "apps") for kind in ("daemonsets", "statefulsets") for verb in ("get", "create", "patch")}
    | {
        Permission("get", "replicasets", "apps"),
        Permission("create", "deployments", "apps"),
        Permission("create", "pods/proxy", ""),
        Permission("get", "pods/proxy", ""),
        Permission("get", "secrets", ""),
        Permission("get", "configmaps", ""),
        Permission("list", "pods", ""),
    }
)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    with stranger(tmp_path_factory.mktemp("stranger")) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize("modes", ["none", "sidecar,node"])
def test_a_run_in_a_cluster_of_another_needs_its_kubeconfig_and_the_runners_role_alone(
    theirs: Stranger, tmp_path: Path, modes: str
) -> None:
    out = tmp_path / "out"
    done = command(
        "run",
        "--cluster",
        f"context:{CONTEXT}",
        "--modes",
        modes,
        "--scenarios",
        "proxy-killed",
        "--out",
        str(out),
        "--",
        "--chaos-inconclusive=fail",
        KUBECONFIG=str(theirs.kubeconfig),
    )
    assert (out / "report.json").is_file(), done.stdout[-3000:] + done.stderr[-2000:]
    assert "touches no other namespace" in done.stderr + done.stdout
    report = json.loads((out / "report.json").read_text())
    assert report["cluster"]["kind"] == "context"
    by_mode = {trial["mode"]: trial for trial in report["trials"]}
    assert set(by_mode) == set(modes.split(","))
    for mode, trial in by_mode.items():
        # What the model says is exact; what a busy machine lets the judge see may stay open, and is never the opposite.
        assert bool(trial["predicted"]["hurt"]) is (mode != "none")
        assert not set(trial["observed"]["hurt"]) & set(trial["predicted"]["unhurt"])
        assert trial["verdict"] in ("pass", "inconclusive"), trial
    left = command("clean", "--cluster", f"context:{CONTEXT}", KUBECONFIG=str(theirs.kubeconfig))
    assert (left.returncode, left.stdout.strip()) == (0, "nothing to clean"), left.stderr


def test_the_audit_log_of_a_rehearsal_holds_no_refusal_and_no_rule_of_any_role_is_unused(theirs: Stranger) -> None:
    rehearse(theirs)
    rows = settled_entries(theirs)
    # not 401: the token of a pod ends with the pod, which may ask once more while it is taken down
    refusals = [(row.user, str(row.access), row.namespace) for row in rows if row.code == 403]
    assert refusals == []
    granted = {
        CONTROL_PLANE: expand(rules_in("rbac/control-plane.yaml")),
        AGENT: expand(rules_in("rbac/node-proxy.yaml")),
    }
    for user, rules in granted.items():
        assert unused(rules, rows, user) - RACES.get(user, set()) == set(), user
    granted[WATCHDOG] = expand(rules_in("rbac/watchdog.yaml"))
    assert unused(granted[WATCHDOG], rows, WATCHDOG) - ELSEWHERE == set()
    # the runner holds what it grants, and uses the rest itself
    held = {_nameless(one) for rules in granted.values() for one in rules}
    assert unused(needed(), rows, RUNNER) - held == set()


def test_a_refusal_and_an_unused_rule_are_both_seen(theirs: Stranger) -> None:
    cluster = connect(CONTEXT, kubeconfig=theirs.kubeconfig, consent=Consent())
    try:
        with pytest.raises(ApiError, match='cannot list resource "secrets"'):
            cluster.list("Secret", "kube-system")
    finally:
        cluster.close()
    rows = settled_entries(theirs)
    assert [row for row in rows if row.user == RUNNER and row.code == 403 and row.namespace == "kube-system"]
    assert unused([Permission("escalate", "deployments", "apps")], rows, RUNNER) == {
        Permission("escalate", "deployments", "apps")
    }


def settled_entries(theirs: Stranger) -> list[Entry]:
    """The audit log once it holds a request of now: it is written with a delay."""
    marker = f"marker-{uuid.uuid4().hex}"

    def written() -> bool:
        theirs.admin.find("Namespace", marker)
        return marker in theirs.audit.read_text()

    theirs.admin.wait("the audit log is written", written, every=0.3)
    return entries(theirs.audit)


def unused(rules: list[Permission], rows: list[Entry], user: str) -> set[Permission]:
    """The rules of a role that no request of its user needed."""
    seen = used(rows, user)
    assert seen, f"{user} did nothing: the rehearsal is not one"
    return {_nameless(rule) for rule in rules} - seen


def _nameless(access: Permission) -> Permission:
    return Permission(access.verb, access.resource, access.group)


def rehearse(theirs: Stranger) -> None:
    """What the suite does to a cluster, once each, as the runner."""
    theirs.admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    cluster = connect(CONTEXT, kubeconfig=theirs.kubeconfig, consent=Consent(namespaces=("shop",)))
    try:
        assert read_facts(cluster).refused == ()
        first, *_ = sorted(node["metadata"]["name"] for node in cluster.list("Node"))
        install_as_kubectl_does(Mesh(cluster, "none", run="kubectl"))
        assert cluster.list("NetworkPolicy", "shop") == []  # asked of a target's namespaces
        mesh = Mesh(cluster, "ambient-pod", run="rehearsal")
        mesh.opens = True  # as where policies shut new namespaces
        tenant = manifests.tenant("a", client_nodes=[first], server_nodes=[first], servers=1)
        mesh.start(tenant)
        mesh.start(tenant)  # over what is there: everything is patched
        the_same_fate_through_a_target_file(cluster, mesh)
        inject_everywhere(mesh, first)
        with Recorder(cluster, [SYSTEM_NAMESPACE, "tenant-a"], run="rehearsal", every=0.2):
            break_things(cluster, mesh)
        cluster.delete("ConfigMap", PROXY_CONFIG, "tenant-a")
        cluster.wait(
            "the control plane publishes again",
            lambda: [c for c in cluster.list("ConfigMap", "tenant-a") if c["metadata"]["name"] == PROXY_CONFIG],
        )
        cluster.patch("ConfigMap", PROXY_CONFIG, {"data": {"bootstrap.json": "broken"}}, "tenant-a")
        cluster.wait(
            "the control plane mends it",
            lambda: [
                c
                for c in cluster.list("ConfigMap", "tenant-a")
                if c["metadata"]["name"] == PROXY_CONFIG and c["data"].get("bootstrap.json") != "broken"
            ],
        )
        removed = remove_runs(cluster)
        assert any("Namespace tenant-a" in line for line in removed)
        assert any(line == "Deployment shop/web" for line in removed)
        assert remove_runs(cluster) == []
        assert "sharedfate.io/mesh" not in theirs.admin.get("Namespace", "shop")["metadata"].get("labels", {})
    finally:
        cluster.close()


def the_same_fate_through_a_target_file(cluster: Cluster, mesh: Mesh) -> None:
    """Our own mesh, described as a stranger's would be: the model says the same of its node proxies."""
    target = parse_target(
        {
            "version": 1,
            "tenants": [{"name": "a", "namespaces": ["tenant-a"]}],
            "calls": [{"client": "tenant-a/client", "server": "tenant-a/server"}],
            "mesh": {
                "name": "theirs",
                "path": ["l4@client", "l4@server"],
                "proxies": [
                    {
                        "name": "l4",
                        "layers": ["l4"],
                        "scope": "node",
                        "container": "proxy",
                        "pods": {"namespace": SYSTEM_NAMESPACE, "labels": {"app": "node-proxy"}},
                    }
                ],
            },
        },
        source="rehearsal",
    )
    _, described = read_target_placement(cluster, target)
    own = {proxy.pod: proxy for proxy in mesh.placement().proxies}
    said = {proxy.node: flow_shares(described, [proxy]) for proxy in described.proxies}
    assert said == {proxy.node: flow_shares(mesh.placement(), [own[proxy.pod]]) for proxy in described.proxies}
    assert [share for shares in said.values() for share in shares.values()] == [1.0]  # of the node that serves them


def install_as_kubectl_does(mesh: Mesh) -> None:
    """Apply what `render` prints, and nothing before it: the control plane makes its own key and publishes it."""
    for wave in (
        ("Namespace",),
        ("ServiceAccount", "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "ConfigMap", "Service"),
        ("Deployment", "DaemonSet"),
    ):
        for obj in mesh.system_manifests():
            if obj["kind"] in wave:
                mesh.cluster.apply(obj)
    mesh.wait_ready(mesh.system_manifests())
    mesh.uninstall()


def inject_everywhere(mesh: Mesh, node: str) -> None:
    """Workloads of every kind, some in a listed namespace that stays."""

    def template(**spec: object) -> dict[str, object]:
        return {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "nodeName": node,
                "containers": [{"name": "web", "image": IMAGE, "command": ["sleep", "600"]}],
                "terminationGracePeriodSeconds": 0,
                **spec,
            },
        }

    job = {"backoffLimit": 0, "template": template(restartPolicy="Never")}
    selector = {"matchLabels": {"app": "web"}}
    specs = {
        "Deployment": {"replicas": 0, "selector": selector, "template": template()},
        "DaemonSet": {"selector": selector, "template": template(nodeName="", nodeSelector={"no": "such"})},
        "StatefulSet": {"replicas": 0, "serviceName": "web", "selector": selector, "template": template()},
        "Job": {**job, "suspend": True},
        "CronJob": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}},
    }
    groups = {"Job": "batch/v1", "CronJob": "batch/v1"}
    objects = [
        {
            "apiVersion": groups.get(kind, "apps/v1"),
            "kind": kind,
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": spec,
        }
        for kind, spec in specs.items()
    ]
    objects += [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        },
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web", "namespace": "shop"}},
    ]
    for _ in range(2):
        for obj in mesh.inject(objects):
            mesh.cluster.apply(obj)
    for kind in ("Job", "CronJob", "StatefulSet", "Deployment", "DaemonSet"):
        mesh.cluster.get(kind, "web", "shop")


def break_things(cluster: Cluster, mesh: Mesh) -> None:
    """One fault of each way of working: a signal, a hold, a resize; and what samples pass through."""
    pods = cluster.list("Pod", "tenant-a")
    client = next(pod for pod in pods if pod["metadata"]["labels"].get(LABEL_ROLE) == "client")
    loader = LoaderClient.of(cluster, "tenant-a", client["metadata"]["name"])
    assert loader.state()
    loader.set_flows([])

    def waypoint() -> dict[str, object]:
        name = next(p.pod for p in mesh.placement().proxies if p.namespace == "tenant-a")
        return cluster.get("Pod", name, "tenant-a")

    def budgeted() -> dict[str, object] | None:
        pod = waypoint()
        limits = pod["spec"]["containers"][0]["resources"]["limits"]  # type: ignore[index]
        return pod if "cpu" in limits else None

    cluster.wait("the waypoint has its budget", budgeted)
    for fault in (Throttle(millicores=20), Pause(), Kill()):
        with injected(cluster, fault, container_target(waypoint(), "proxy"), run="rehearsal", seconds=30):
            pass
    # and what a runner that died leaves to the watchdog
    server = Target(
        kind="workload",
        workload_kind="Deployment",
        name="server",
        namespace="tenant-a",
        uid=cluster.get("Deployment", "server", "tenant-a")["metadata"]["uid"],
    )
    paused = container_target(cluster.get("Pod", client["metadata"]["name"], "tenant-a"), "client")
    for left, target in (
        (Throttle(millicores=20), container_target(waypoint(), "proxy")),
        (Pause(), paused),
        (Scale(), server),
    ):
        begin(
            cluster, left, target, run="rehearsal", seconds=1
        )  # one after another: without its server a waypoint goes
        cluster.wait("the watchdog undoes what is overdue", lambda: not open_receipts(cluster, "rehearsal"), seconds=60)
