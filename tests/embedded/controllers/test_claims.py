"""Claims for storage, with all controllers running: who is bound to what, and what goes with whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from chaos.embedded import claims
from chaos.embedded.deletion import delete
from chaos.embedded.resources import (
    EVENT,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    STORAGE_CLASS,
    Object,
)
from tests.embedded.controllers.harness import NS, World, node, pod, workload, world

DEFAULT = {claims.IS_DEFAULT: "true"}


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            w.create(STORAGE_CLASS, storage("standard", annotations=DEFAULT))
            await test(w)

    asyncio.run(main())


def storage(name: str, *, mode: str = "WaitForFirstConsumer", **more: Any) -> dict[str, Any]:
    annotations = {"annotations": more.pop("annotations")} if "annotations" in more else {}
    body = {"provisioner": claims.PROVISIONER, "volumeBindingMode": mode, **more}
    return {"metadata": {"name": name, **annotations}, **body}


def claim(name: str, size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    return {"metadata": {"name": name, "namespace": NS}, "spec": body}


def volume(name: str, size: str = "1Gi", *, on: str = "", **spec: Any) -> dict[str, Any]:
    body = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "hostPath": {"path": "/d"}, **spec}
    if on:
        match = {"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}
        body["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [match]}]}}
    return {"metadata": {"name": name}, "spec": body}


def using(name: str, *names: str, **spec: Any) -> dict[str, Any]:
    volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in names]
    return pod(name, volumes=volumes, serviceAccountName="default", **spec)


def held(w: World, name: str) -> Object:
    return w.store.get(PERSISTENT_VOLUME_CLAIM, NS, name)


def phase(w: World, name: str) -> str:
    return str(held(w, name)["status"]["phase"])


def told(w: World, name: str) -> list[tuple[str, str]]:
    found = [one for one in w.store.list(EVENT) if one["involvedObject"]["name"] == name]
    return [(one["reason"], one["message"]) for one in found]


def _runs_on(w: World, name: str, node: str) -> bool:
    return bool(w.store.get(POD, NS, name)["spec"].get("nodeName") == node)


def _is_bound(w: World, name: str) -> bool:
    return phase(w, name) == "Bound"


async def pod_of(w: World, made: dict[str, Any]) -> None:
    await w.until(lambda: w.store.find(SERVICE_ACCOUNT, NS, "default"))
    w.create(POD, made)


def test_a_claim_of_the_default_class_waits_for_its_pod_and_then_is_a_directory_of_the_pods_node() -> None:
    async def check(w: World) -> None:
        w.create(PERSISTENT_VOLUME_CLAIM, claim("data"))
        await w.until(lambda: told(w, "data"))
        assert held(w, "data")["spec"]["storageClassName"] == "standard"
        assert told(w, "data") == [("WaitForFirstConsumer", "waiting for first consumer to be created before binding")]
        await pod_of(w, using("p", "data"))
        await w.until(lambda: w.store.get(POD, NS, "p")["spec"].get("nodeName"))
        where, bound = w.store.get(POD, NS, "p")["spec"]["nodeName"], held(w, "data")
        assert bound["status"] == {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
        made = w.store.get(PERSISTENT_VOLUME, "", bound["spec"]["volumeName"])
        assert made["metadata"]["name"] == f"pvc-{bound['metadata']['uid']}"
        assert made["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]
        assert made["spec"]["hostPath"]["path"].endswith(f"/claims/{made['metadata']['name']}")
        values = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
        assert values == [where]
        assert (made["status"]["phase"], made["spec"]["persistentVolumeReclaimPolicy"]) == ("Bound", "Delete")
        reasons = [reason for reason, _ in told(w, "data")]
        assert reasons[-3:] == ["ExternalProvisioning", "Provisioning", "ProvisioningSucceeded"]
        assert "FailedScheduling" not in [reason for reason, _ in told(w, "p")]

    run(check)


def test_a_pod_goes_back_to_the_node_of_its_claim_or_waits_for_it() -> None:
    async def check(w: World) -> None:
        w.create(PERSISTENT_VOLUME_CLAIM, claim("data"))
        await pod_of(w, using("p", "data", nodeSelector={"kubernetes.io/hostname": "n2"}))
        await w.until(lambda: phase(w, "data") == "Bound")
        delete(w.store, POD, NS, "p", grace=0)
        for number in range(6):
            name = f"again-{number}"
            w.create(POD, using(name, "data"))
            await w.until(partial(_runs_on, w, name, "n2"))
        w.create(POD, using("elsewhere", "data", nodeSelector={"kubernetes.io/hostname": "n1"}))
        await w.until(lambda: told(w, "elsewhere"))
        reason, words = told(w, "elsewhere")[0]
        assert reason == "FailedScheduling"
        assert "1 node(s) didn't match PersistentVolume's node affinity" in words
        assert "2 node(s) didn't match Pod's node affinity/selector" in words

    run(check)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (None, 'persistentvolumeclaim "data" not found'),
        (claim("data", storageClassName="none"), "pod has unbound immediate PersistentVolumeClaims"),
        (claim("data", storageClassName=""), "pod has unbound immediate PersistentVolumeClaims"),
    ],
)
def test_a_pod_whose_claim_cannot_be_met_says_why(made: dict[str, Any] | None, words: str) -> None:
    async def check(w: World) -> None:
        if made is not None:
            w.create(PERSISTENT_VOLUME_CLAIM, made)
        await pod_of(w, using("p", "data"))
        await w.until(lambda: told(w, "p"))
        assert told(w, "p")[0] == (
            "FailedScheduling",
            f"0/3 nodes are available: {words}. no new claims to deallocate, preemption: 0/3 nodes are available: "
            "3 Preemption is not helpful for scheduling.",
        )

    run(check)


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"storageClassName": "none"}, "ProvisioningFailed", 'storageclass.storage.k8s.io "none" not found'),
        ({"storageClassName": ""}, "FailedBinding", "no persistent volumes available for this claim and no storage "
                                                    "class is set"),
        ({"storageClassName": "theirs"}, "ExternalProvisioning", "'disks.example.com'"),
        ({"storageClassName": "now", "volumeMode": "Block"}, "ProvisioningFailed", "block volume"),
        ({"storageClassName": "now", "selector": {"matchLabels": {"a": "b"}}}, "ProvisioningFailed", "Selector"),
        ({"volumeName": "taken"}, "FailedBinding", 'volume "taken" already bound to a different claim.'),
        ({"volumeName": "small", "storageClassName": ""}, "VolumeMismatch", "requested PV is too small"),
        ({"volumeName": "small"}, "VolumeMismatch", "requested PV is too small"),
    ],
)  # fmt: skip
def test_a_claim_that_cannot_be_met_says_why(spec: dict[str, Any], reason: str, words: str) -> None:
    async def check(w: World) -> None:
        w.create(STORAGE_CLASS, storage("now", mode="Immediate"))
        w.create(STORAGE_CLASS, storage("theirs", mode="Immediate") | {"provisioner": "disks.example.com"})
        other = {"namespace": NS, "name": "somebody", "uid": "1"}
        w.create(PERSISTENT_VOLUME, volume("taken", claimRef=other, persistentVolumeReclaimPolicy="Retain"))
        w.create(PERSISTENT_VOLUME, volume("small", "1Mi"))
        w.create(PERSISTENT_VOLUME_CLAIM, claim("data", **spec))
        await w.until(lambda: any(one == reason and words in said for one, said in told(w, "data")))
        assert phase(w, "data") == "Pending"

    run(check)


def test_the_smallest_free_volume_that_meets_a_claim_is_taken() -> None:
    async def check(w: World) -> None:
        for name, size, more in (
            ("tiny", "1Mi", {}),
            ("large", "9Gi", {}),
            ("right", "2Gi", {}),
            ("other-class", "1Gi", {"storageClassName": "x"}),
            ("block", "1Gi", {"volumeMode": "Block"}),
            ("read-only", "1Gi", {"accessModes": ["ReadOnlyMany"]}),
        ):
            w.create(PERSISTENT_VOLUME, volume(name, size, **more))
        await w.until(lambda: all(one["status"]["phase"] == "Available" for one in w.store.list(PERSISTENT_VOLUME)))
        w.create(PERSISTENT_VOLUME_CLAIM, claim("data", storageClassName=""))
        await w.until(lambda: phase(w, "data") == "Bound")
        assert held(w, "data")["spec"]["volumeName"] == "right"
        assert held(w, "data")["status"]["capacity"] == {"storage": "2Gi"}

    run(check)


def test_local_volumes_lead_a_pod_to_their_node() -> None:
    async def check(w: World) -> None:
        w.create(STORAGE_CLASS, storage("local") | {"provisioner": claims.NO_PROVISIONER})
        w.create(PERSISTENT_VOLUME_CLAIM, claim("data", storageClassName="local"))
        await pod_of(w, using("p", "data"))
        await w.until(lambda: told(w, "p"))
        assert "3 node(s) didn't find available persistent volumes to bind" in told(w, "p")[0][1]
        w.create(PERSISTENT_VOLUME, volume("disk", on="n3", storageClassName="local"))
        await w.until(lambda: w.store.get(POD, NS, "p")["spec"].get("nodeName") == "n3")
        assert held(w, "data")["spec"]["volumeName"] == "disk"

    run(check)


def test_a_claim_in_use_stays_until_its_pod_is_gone_and_its_volume_is_released_with_it() -> None:
    async def check(w: World) -> None:
        w.create(PERSISTENT_VOLUME_CLAIM, claim("data"))
        await pod_of(w, using("p", "data"))
        await w.until(lambda: phase(w, "data") == "Bound" and w.store.get(POD, NS, "p")["spec"].get("nodeName"))
        name = held(w, "data")["spec"]["volumeName"]
        delete(w.store, PERSISTENT_VOLUME, "", name)
        delete(w.store, PERSISTENT_VOLUME_CLAIM, NS, "data")
        await asyncio.sleep(0.2)
        assert held(w, "data")["metadata"]["finalizers"] == [claims.CLAIM_PROTECTION]
        assert claims.VOLUME_PROTECTION in w.store.get(PERSISTENT_VOLUME, "", name)["metadata"]["finalizers"]
        w.create(POD, using("late", "data"))
        await w.until(lambda: told(w, "late"))
        assert 'persistentvolumeclaim "data" is being deleted' in told(w, "late")[0][1]
        delete(w.store, POD, NS, "p", grace=0)
        await w.until(lambda: w.store.find(PERSISTENT_VOLUME_CLAIM, NS, "data") is None)
        await w.until(lambda: w.store.get(PERSISTENT_VOLUME, "", name)["status"]["phase"] == "Released")
        await w.until(
            lambda: w.store.get(PERSISTENT_VOLUME, "", name)["metadata"]["finalizers"] == [claims.PROVISIONER_FINALIZER]
        )  # what is left is the node's to do: its directory

    run(check)


@pytest.mark.parametrize(("policy", "phases"), [("Retain", "Released"), ("Delete", "Failed"), ("Recycle", "Failed")])
def test_a_volume_made_by_hand_is_kept_or_said_not_to_be_deletable(policy: str, phases: str) -> None:
    async def check(w: World) -> None:
        w.create(PERSISTENT_VOLUME, volume("v", persistentVolumeReclaimPolicy=policy))
        w.create(PERSISTENT_VOLUME_CLAIM, claim("data", storageClassName=""))
        await w.until(lambda: phase(w, "data") == "Bound")
        delete(w.store, PERSISTENT_VOLUME_CLAIM, NS, "data")
        await w.until(lambda: w.store.get(PERSISTENT_VOLUME, "", "v")["status"]["phase"] == phases)
        assert bool(told(w, "v")) == (phases == "Failed")

    run(check)


def test_a_claim_whose_volume_is_gone_is_lost() -> None:
    async def check(w: World) -> None:
        w.create(PERSISTENT_VOLUME, volume("v"))
        w.create(PERSISTENT_VOLUME_CLAIM, claim("data", storageClassName=""))
        await w.until(lambda: phase(w, "data") == "Bound")
        w.store.remove(PERSISTENT_VOLUME, "", "v")
        await w.until(lambda: phase(w, "data") == "Lost")
        assert "ClaimLost" in [reason for reason, _ in told(w, "data")]

    run(check)


def test_an_ephemeral_volume_has_a_claim_that_goes_with_its_pod() -> None:
    async def check(w: World) -> None:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": claim("x")["spec"]}
        volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
        await pod_of(w, pod("p", volumes=volumes, serviceAccountName="default"))
        await w.until(lambda: w.store.get(POD, NS, "p")["spec"].get("nodeName"))
        made = held(w, "p-scratch")
        assert (made["metadata"]["labels"], made["status"]["phase"]) == ({"a": "b"}, "Bound")
        delete(w.store, POD, NS, "p", grace=0)
        await w.until(lambda: w.store.find(PERSISTENT_VOLUME_CLAIM, NS, "p-scratch") is None)

    run(check)


def test_an_ephemeral_volume_takes_no_claim_of_somebody_else() -> None:
    async def check(w: World) -> None:
        w.create(PERSISTENT_VOLUME_CLAIM, claim("p-scratch"))
        volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim("x")["spec"]}}}]
        await pod_of(w, pod("p", volumes=volumes, serviceAccountName="default"))
        await w.until(lambda: {"FailedBinding", "FailedScheduling"} <= {reason for reason, _ in told(w, "p")})
        assert all("was not created for pod" in words for _, words in told(w, "p"))

    run(check)


def test_a_stateful_sets_pods_have_claims_that_outlive_them() -> None:
    async def check(w: World) -> None:
        templates = [{"metadata": {"name": "data"}, "spec": claim("x")["spec"]}]
        w.create(STATEFUL_SET, workload("StatefulSet", "s", replicas=2, volumeClaimTemplates=templates))
        await w.until(lambda: w.store.get(STATEFUL_SET, NS, "s").get("status", {}).get("readyReplicas") == 2)
        assert ("SuccessfulCreate", "Create Claim data-s-0 Pod s-0 in StatefulSet s success") in told(w, "s")
        first = held(w, "data-s-0")
        assert first["metadata"]["labels"] == {"app": "s"}
        volumes = w.store.get(POD, NS, "s-0")["spec"]["volumes"]
        assert volumes[0] == {"name": "data", "persistentVolumeClaim": {"claimName": "data-s-0"}}
        where = w.store.get(POD, NS, "s-1")["spec"]["nodeName"]
        w.store.mutate(STATEFUL_SET, NS, "s", lambda new: new["spec"].update(replicas=0))
        await w.until(lambda: not w.pods())
        assert held(w, "data-s-0")["metadata"]["uid"] == first["metadata"]["uid"]
        w.store.mutate(STATEFUL_SET, NS, "s", lambda new: new["spec"].update(replicas=2))
        await w.until(lambda: w.store.get(STATEFUL_SET, NS, "s")["status"].get("readyReplicas") == 2)
        assert w.store.get(POD, NS, "s-1")["spec"]["nodeName"] == where
        delete(w.store, STATEFUL_SET, NS, "s")
        await w.until(lambda: not w.pods())
        assert len(w.store.list(PERSISTENT_VOLUME_CLAIM, NS)) == 2

    run(check)


@pytest.mark.parametrize(
    ("scaled", "deleted", "after_scaling", "after_deletion"),
    [("Retain", "Retain", 3, 3), ("Delete", "Retain", 1, 1), ("Retain", "Delete", 3, 0), ("Delete", "Delete", 1, 0)],
)
def test_claims_go_as_the_retention_policy_says(
    scaled: str, deleted: str, after_scaling: int, after_deletion: int
) -> None:
    async def check(w: World) -> None:
        templates = [{"metadata": {"name": "data"}, "spec": claim("x")["spec"]}]
        policy = {"whenScaled": scaled, "whenDeleted": deleted}
        spec: dict[str, Any] = {"volumeClaimTemplates": templates, "persistentVolumeClaimRetentionPolicy": policy}
        w.create(STATEFUL_SET, workload("StatefulSet", "s", replicas=3, **spec))

        def left() -> int:
            return len(w.store.list(PERSISTENT_VOLUME_CLAIM, NS))

        await w.until(lambda: w.store.get(STATEFUL_SET, NS, "s").get("status", {}).get("readyReplicas") == 3)
        w.store.mutate(STATEFUL_SET, NS, "s", lambda new: new["spec"].update(replicas=1))
        await w.until(lambda: len(w.pods()) == 1 and left() == after_scaling)
        await asyncio.sleep(0.2)
        assert left() == after_scaling
        delete(w.store, STATEFUL_SET, NS, "s")
        await w.until(lambda: not w.pods() and left() == after_deletion)
        await asyncio.sleep(0.2)
        assert left() == after_deletion

    run(check)


def test_a_class_that_does_not_wait_makes_its_volume_at_once_on_the_node_with_the_fewest() -> None:
    async def check(w: World) -> None:
        w.create(STORAGE_CLASS, storage("now", mode="Immediate"))
        for number in range(4):
            w.create(PERSISTENT_VOLUME_CLAIM, claim(f"c{number}", storageClassName="now"))
            await w.until(partial(_is_bound, w, f"c{number}"))
        where = [one["metadata"]["annotations"][claims.SELECTED_NODE] for one in w.store.list(PERSISTENT_VOLUME)]
        assert sorted(where) == ["n1", "n1", "n2", "n2"]

    run(check, node("n1"), node("n2"))


def test_a_claim_grows_where_its_class_lets_it() -> None:
    async def check(w: World) -> None:
        w.create(STORAGE_CLASS, storage("now", mode="Immediate", allowVolumeExpansion=True))
        w.create(PERSISTENT_VOLUME_CLAIM, claim("c", storageClassName="now"))
        await w.until(lambda: phase(w, "c") == "Bound")
        more = {"requests": {"storage": "3Gi"}}
        w.store.mutate(PERSISTENT_VOLUME_CLAIM, NS, "c", lambda new: new["spec"].update(resources=more))
        await w.until(lambda: held(w, "c")["status"]["capacity"] == {"storage": "3Gi"})
        made = w.store.get(PERSISTENT_VOLUME, "", held(w, "c")["spec"]["volumeName"])
        assert made["spec"]["capacity"] == {"storage": "3Gi"}

    run(check)
