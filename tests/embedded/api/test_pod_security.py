"""Pod Security admission: one row for each thing that a standard forbids, and how namespaces ask for a standard."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded.api.admission import admit_create, admit_update, review_pod_security
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.pod_security import LevelVersion, describe, policy_of, violations
from chaos.embedded.resources import DEPLOYMENT, NAMESPACE, POD, SERVICE_ACCOUNT
from chaos.embedded.store import Store

RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SET_DROP = 'container "c" must set securityContext.capabilities.drop=["ALL"]'


def spec(context: dict[str, Any] | None = None, pod: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    """A pod that keeps *restricted*, but for what the arguments change."""
    held = {"name": "c", "image": "i", "securityContext": {**RESTRICTED, **(context or {})}, **container}
    return {"containers": [held], **(pod or {})}


BASELINE = [  # what breaks *baseline*, and so *restricted* where that has no stronger rule of its own
    (spec(pod={"hostPID": True, "hostNetwork": True}), "host namespaces (hostNetwork=true, hostPID=true)"),
    (spec({"privileged": True}), 'privileged (container "c" must not set securityContext.privileged=true)'),
    (spec(pod={"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), 'hostPath volumes (volume "v")'),
    (spec(ports=[{"hostPort": 80, "containerPort": 80}]), 'hostPort (container "c" uses hostPort 80)'),
    (
        spec(readinessProbe={"httpGet": {"host": "10.0.0.1", "port": 1}}),
        'probe or lifecycle host (container "c" uses probe or lifecycle host "10.0.0.1")',
    ),
    (
        spec({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "SYS_ADMIN"]}}),
        'non-default capabilities (container "c" must not include "NET_ADMIN", "SYS_ADMIN" in '
        "securityContext.capabilities.add)",
    ),
    (spec({"procMount": "Unmasked"}), 'procMount (container "c" must not set securityContext.procMount to "Unmasked")'),
    (
        spec({"seccompProfile": {"type": "Unconfined"}}),
        'seccompProfile (container "c" must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (
        spec({"appArmorProfile": {"type": "Unconfined"}}),
        'forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")',
    ),
    (
        spec({"seLinuxOptions": {"type": "spc_t", "user": "u"}}),
        'seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; '
        "user may not be set)",
    ),
    (
        spec(pod={"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
        "forbidden sysctls (kernel.msgmax)",
    ),
    (
        spec({"windowsOptions": {"hostProcess": True}}),
        'hostProcess (container "c" must not set securityContext.windowsOptions.hostProcess=true)',
    ),
]
ONLY_RESTRICTED = [
    (spec({"allowPrivilegeEscalation": None}), "allowPrivilegeEscalation != false"),
    (spec({"capabilities": {}}), f"unrestricted capabilities ({SET_DROP})"),
    (spec({"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}), "unrestricted capabilities"),
    (
        spec({"runAsNonRoot": None}),
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)',
    ),
    (spec({"runAsNonRoot": False}), "runAsNonRoot != true"),
    (spec({"runAsUser": 0}), 'runAsUser=0 (container "c" must not set runAsUser=0)'),
    (spec({"seccompProfile": None}), "seccompProfile (pod or container"),
    (
        spec(pod={"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]}),
        'restricted volume types (volume "v" uses restricted volume type "nfs")',
    ),
]


@pytest.mark.parametrize(("pod", "said"), BASELINE)
def test_baseline_forbids_it_in_these_words(pod: dict[str, Any], said: str) -> None:
    assert describe(violations(LevelVersion("baseline"), {}, pod)) == said
    assert violations(LevelVersion("restricted"), {}, pod)
    assert not violations(LevelVersion("privileged"), {}, pod)


@pytest.mark.parametrize(("pod", "said"), ONLY_RESTRICTED)
def test_restricted_alone_forbids_it(pod: dict[str, Any], said: str) -> None:
    assert said in describe(violations(LevelVersion("restricted"), {}, pod))
    assert not violations(LevelVersion("baseline"), {}, pod)


def test_a_pod_that_keeps_every_rule_breaks_none() -> None:
    assert not violations(LevelVersion("restricted"), {}, spec())


@pytest.mark.parametrize(
    ("pod", "minor", "breaks"),
    [
        (spec(readinessProbe={"tcpSocket": {"host": "h", "port": 1}}), 33, False),
        (spec(readinessProbe={"tcpSocket": {"host": "h", "port": 1}}), 34, True),
        (spec({"runAsUser": 0}, pod={"hostUsers": False}), 34, True),
        (spec({"runAsUser": 0}, pod={"hostUsers": False}), 35, False),
        (spec({"capabilities": None}, pod={"os": {"name": "windows"}}), 24, True),
        (spec({"capabilities": None}, pod={"os": {"name": "windows"}}), 25, False),
        (spec(pod={"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}}), 31, True),
        (spec(pod={"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}}), 32, False),
    ],
)
def test_a_namespace_may_ask_for_a_standard_as_of_a_version(pod: dict[str, Any], minor: int, breaks: bool) -> None:
    assert bool(violations(LevelVersion("restricted", minor), {}, pod)) is breaks


@pytest.mark.parametrize(
    ("labels", "enforce", "warn"),
    [
        ({}, "privileged:latest", "privileged:latest"),
        ({"enforce": "restricted"}, "restricted:latest", "restricted:latest"),
        ({"enforce": "baseline", "enforce-version": "v1.30"}, "baseline:v1.30", "baseline:v1.30"),
        ({"enforce": "baseline", "warn": "privileged"}, "baseline:latest", "privileged:latest"),
        ({"warn": "baseline"}, "privileged:latest", "baseline:latest"),
    ],
)
def test_labels_say_what_is_enforced_and_what_is_warned_of(labels: dict[str, str], enforce: str, warn: str) -> None:
    policy, problems = policy_of({f"pod-security.kubernetes.io/{key}": value for key, value in labels.items()})
    assert (str(policy.enforce), str(policy.warn), problems) == (enforce, warn, [])


def cluster(**labels: str) -> Store:
    store = Store()
    named = {f"pod-security.kubernetes.io/{key}": value for key, value in labels.items()}
    store.create(NAMESPACE, {"metadata": {"name": "n", "labels": named}, "status": {"phase": "Active"}})
    store.create(SERVICE_ACCOUNT, {"metadata": {"name": "default", "namespace": "n"}})
    return store


def pod(held: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "n"}, "spec": held}


def test_a_pod_that_breaks_what_is_enforced_is_forbidden_and_a_template_is_warned_of() -> None:
    store, bad = cluster(enforce="restricted"), {"containers": [{"name": "c", "image": "i"}]}
    with pytest.raises(StatusError) as caught:
        admit_create(store, POD, pod(bad))
    assert caught.value.code == 403
    assert str(caught.value).startswith(
        'pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container '
        '"c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities ('
    )
    template = {"metadata": {"labels": {"a": "b"}}, "spec": bad}
    workload = {
        "metadata": {"name": "d", "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    admitted = admit_create(store, DEPLOYMENT, workload)
    warned = review_pod_security(store, DEPLOYMENT, None, admitted, "")
    assert warned.warnings[0].startswith('would violate PodSecurity "restricted:latest": allowPrivilegeEscalation')
    assert not warned.refused


def test_a_pod_in_a_warning_namespace_is_made_and_noted() -> None:
    store = cluster(warn="baseline", audit="baseline")
    admitted = admit_create(store, POD, pod(spec(pod={"hostPID": True})))
    said = review_pod_security(store, POD, None, admitted, "")
    assert said.warnings == ('would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)',)
    assert said.audit == said.warnings[0]


def test_an_ephemeral_container_is_held_to_the_standard_and_a_label_is_not() -> None:
    store = cluster(enforce="restricted")
    held = store.create(POD, admit_create(store, POD, pod(spec())))
    labelled = {**held, "metadata": {**held["metadata"], "labels": {"a": "b"}}}
    assert admit_update(store, POD, held, labelled)["metadata"]["labels"] == {"a": "b"}
    guest = {"name": "debug", "image": "i", "terminationMessagePolicy": "File"}
    with pytest.raises(StatusError, match='container "debug" must set'):
        admit_update(
            store, POD, held, {**held, "spec": {**held["spec"], "ephemeralContainers": [guest]}}, "ephemeralcontainers"
        )


def test_a_namespace_that_asks_for_more_is_told_which_of_its_pods_break_it() -> None:
    store = cluster()
    for name in ("b", "a"):
        made = admit_create(
            store, POD, {"metadata": {"name": name, "namespace": "n"}, "spec": spec(pod={"hostPID": True})}
        )
        store.create(POD, made)
    old = store.find(NAMESPACE, "", "n")
    assert old is not None
    new = {**old, "metadata": {**old["metadata"], "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    admitted = admit_update(store, NAMESPACE, old, new)
    assert review_pod_security(store, NAMESPACE, old, admitted, "").warnings == (
        'existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 1 other pod): host namespaces",
    )


def test_a_level_that_does_not_exist_is_refused_with_its_label() -> None:
    store = Store()
    labels = {"pod-security.kubernetes.io/enforce": "strict", "pod-security.kubernetes.io/warn-version": "1.3"}
    with pytest.raises(StatusError) as caught:
        admit_create(store, NAMESPACE, {"metadata": {"name": "n", "labels": labels}})
    assert [cause["field"] for cause in caught.value.status()["details"]["causes"]] == [
        "metadata.labels[pod-security.kubernetes.io/enforce]",
        "metadata.labels[pod-security.kubernetes.io/warn-version]",
    ]
