"""The doctor's findings, from facts alone; and the parts of a role, from its manifest."""

from __future__ import annotations

import dataclasses
from typing import Any

from chaos.doctor.access import expand, needed, rules_in
from chaos.doctor.facts import CAPTURE, PRIVILEGED, Facts, NodeFacts, detect_plugins, plan_try
from chaos.doctor.findings import BUDGET, blockers, findings, of_fault, of_mode, of_scenario, warnings
from chaos.doctor.text import report
from chaos.doctor.tried import PodKind, Tried
from chaos.engine.catalogue import faults_of_scenarios
from chaos.kube.access import Permission
from chaos.kube.nodes import NodeChoice
from chaos.model.modes import MODES

NODE = NodeFacts("n1", "v1.36.2", "6.8.0", "containerd://2.0.1", True)
FACTS = Facts(
    "theirs",
    (1, 36),
    NodeChoice(("n1", "n2")),
    (NODE, dataclasses.replace(NODE, name="n2")),
    (),
    True,
    True,
    {PRIVILEGED: "", CAPTURE: ""},
    network=("Calico",),
)
ONE = NodeChoice(("n1",), left_out={"cp": "taint x:NoSchedule"})


def facts(**changes: Any) -> Facts:
    return dataclasses.replace(FACTS, **changes)


def test_a_cluster_with_everything_runs_everything() -> None:
    found = findings(FACTS, faults_of_scenarios())
    assert [
        one for one in found if not one.can and "does not apply" not in one.why and "only in a cluster" not in one.why
    ] == []
    assert any(one.subject == "proxy-killed[ambient-node]" for one in found)
    assert warnings(FACTS) == []


def test_one_node_is_in_the_way_of_everything() -> None:
    poor = facts(choice=ONE)
    assert blockers(poor) == ["1 node takes our pods: sharing needs at least 2 (cp: taint x:NoSchedule)"]
    assert not any(one.can for one in findings(poor, faults_of_scenarios()))


def test_a_missing_permission_names_itself_and_the_manifest() -> None:
    (why,) = blockers(facts(refused=(Permission("create", "pods", ""), Permission("get", "pods/log", ""))))
    assert why == "you may not create pods, get pods/log: bind manifests/rbac/runner.yaml to your user"


def test_missing_metrics_keep_nothing_from_running() -> None:
    poor = facts(refused=(Permission("list", "pods", "metrics.k8s.io"),), metrics=False)
    assert blockers(poor) == []
    assert any("read by a privileged pod of ours on each node" in line for line in warnings(poor))


def test_without_resize_what_hangs_on_cpu_cannot_run_and_the_rest_can() -> None:
    old = facts(version=(1, 31), resize=False)
    assert of_fault(old, "throttle").why == BUDGET
    assert of_scenario(old, "noisy-neighbour", MODES["node"], ("overload",)).why == BUDGET
    assert of_scenario(old, "noisy-neighbour", MODES["none"], ("overload",)).can
    assert of_scenario(old, "proxy-killed", MODES["node"], ("kill",)).can
    assert any(BUDGET in line for line in warnings(old))


def test_resize_that_is_served_and_forbidden_is_the_throttles_affair() -> None:
    poor = facts(refused=(Permission("patch", "pods/resize", ""),))
    assert blockers(poor) == []
    assert of_fault(poor, "throttle").why == "you may not patch pods/resize"
    assert of_fault(poor, "kill").can


def test_faults_of_whole_nodes_are_for_clusters_of_ours_alone() -> None:
    for name in ("drain", "stop-node", "cut-node", "stop-kubelet", "api-trouble"):
        assert "only in a cluster that we made" in of_fault(FACTS, name).why
        assert of_fault(facts(guarded=False), name).can


def test_a_pod_that_admission_refuses_forbids_the_modes_that_make_such_pods() -> None:
    strict = facts(pod_security={PRIVILEGED: "", CAPTURE: 'admission webhook "x" denied the request: NET_ADMIN'})
    for mode in ("none", "sidecar", "native-sidecar", "ambient-namespace", "ambient-pod"):
        assert 'webhook "x" denied the request: NET_ADMIN' in of_mode(strict, MODES[mode]).why
    assert of_mode(strict, MODES["node"]).can


def test_what_was_tried_goes_before_what_a_dry_run_said() -> None:
    denied = 'admission webhook "x" denied the request: hostPID'
    dry = facts(pod_security={PRIVILEGED: denied, CAPTURE: ""})
    tried = facts(tried=Tried({PodKind.AGENT: denied, PodKind.HELPER: denied}))
    for seen in (dry, tried):
        assert denied in of_mode(seen, MODES["node"]).why
        assert of_mode(seen, MODES["sidecar"]).can
        assert denied in of_fault(seen, "kill").why
        assert denied in of_scenario(seen, "proxy-killed", MODES["sidecar"], ("kill",)).why
        assert of_scenario(seen, "proxy-recreated", MODES["sidecar"], ("recreate",)).can


def test_what_was_tried_and_is_essential_is_in_the_way_of_everything() -> None:
    poor = facts(tried=Tried({PodKind.APP: "FailedCreate: exceeded quota"}))
    assert blockers(poor) == ["application pods: FailedCreate: exceeded quota"]
    closed = facts(tried=Tried({}, control="503: dial tcp 10.0.0.1:9990: i/o timeout: let the API server reach it"))
    assert "9990" in blockers(closed)[0]


def test_what_was_not_tried_is_not_called_well() -> None:
    """Samples and exec want a loader, and a request between pods wants a way to the samples."""
    for tried, told in (
        (Tried({PodKind.LOADER: "ErrImagePull"}), ("not tried", "not tried", "not tried")),
        (Tried({}, control="503: i/o timeout"), ("503: i/o timeout", "not tried", "not tried")),
        (Tried({}, control="", image="of another build"), ("well", "not tried", "not tried")),
        (Tried({}, control="", network="no answer", exec=""), ("well", "no answer", "well")),
    ):
        lines = report(facts(tried=tried), []).splitlines()
        ways = zip(("samples", "from pod to pod", "exec"), told, strict=True)
        assert {f"  {name}: {what}" for name, what in ways} <= set(lines)


def test_an_old_version_and_a_run_that_is_there_are_in_the_way() -> None:
    assert "at least 1.29" in blockers(facts(version=(1, 28)))[0]
    assert "another run goes on, or was left" in blockers(facts(taken="abc"))[0]


def test_what_should_be_known_is_said() -> None:
    told = "\n".join(
        warnings(
            facts(
                version=(1, 38),
                network=("Cilium",),
                unread=("DaemonSet: Forbidden",),
                nodes=(dataclasses.replace(NODE, has_image=False),),
            )
        )
    )
    for part in ("1.38 is newer", "socketLB.hostNamespaceOnly", "may not look at DaemonSet", "not listed on n1"):
        assert part in told
    assert "not enforced here (Calico)" in "\n".join(warnings(facts(tried=Tried({}, policies=False))))


def test_the_report_groups_what_cannot_run_by_its_reason() -> None:
    old = facts(version=(1, 31), resize=False)
    text = report(old, findings(old, faults_of_scenarios()))
    body = text.partition("cannot run")[2]
    assert body.count(BUDGET) == 1
    assert "noisy-neighbour[node]" in body


def test_one_reason_that_is_in_the_way_of_all_is_said_once() -> None:
    poor = facts(choice=ONE)
    text = report(poor, findings(poor, faults_of_scenarios()))
    assert text.endswith("cannot run\n  everything")
    assert text.count("1 node takes our pods") == 1
    assert "can run (" not in text


def test_the_faults_of_a_scenario_are_those_that_its_module_uses() -> None:
    found = faults_of_scenarios()
    assert found["proxy-killed"]["node"] == ("kill",)
    assert found["proxy-paused"]["sidecar"] == ("pause",)
    assert found["noisy-neighbour"]["none"] == ("overload",)


def test_network_plugins_are_known_by_their_daemonsets() -> None:
    daemons = [{"metadata": {"name": name}} for name in ("cilium", "cilium-envoy", "kube-proxy", "calico-node")]
    assert detect_plugins(daemons) == ("Calico", "Cilium")


def test_the_pods_that_are_tried_need_what_ours_need() -> None:
    assert plan_try(PRIVILEGED)["spec"]["hostPID"] is True
    assert plan_try(CAPTURE)["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] == ["NET_ADMIN"]


def test_a_role_is_taken_apart_into_single_questions() -> None:
    one = Permission("get", "secrets", "", name="mesh-authority")
    assert one in needed()
    assert one.review()["spec"]["resourceAttributes"] == {
        "verb": "get",
        "group": "",
        "resource": "secrets",
        "name": "mesh-authority",
    }
    log = Permission("get", "pods/log", "").review()["spec"]["resourceAttributes"]
    assert (log["resource"], log["subresource"]) == ("pods", "log")
    assert expand([{"apiGroups": ["a"], "resources": ["b", "c"], "verbs": ["get"]}]) == [
        Permission("get", "b", "a"),
        Permission("get", "c", "a"),
    ]


def test_the_runner_holds_everything_that_it_grants() -> None:
    """Kubernetes refuses to let anybody grant more than he holds."""
    held = set(needed())
    for file in ("rbac/control-plane.yaml", "rbac/node-proxy.yaml", "rbac/watchdog.yaml"):
        granted = set(expand(rules_in(file)))
        assert {one for one in granted if one not in held and dataclasses.replace(one, name="") not in held} == set(), (
            file
        )


def test_no_role_of_ours_has_a_star() -> None:
    for file in ("rbac/runner.yaml", "rbac/control-plane.yaml", "rbac/node-proxy.yaml", "rbac/watchdog.yaml"):
        assert not [one for one in expand(rules_in(file)) if "*" in (one.group, one.resource, one.verb)], file
