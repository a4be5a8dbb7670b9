"""PersistentVolumeClaims, PersistentVolumes, StorageClasses and HorizontalPodAutoscalers: their defaults, what of them
is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded import claims
from chaos.embedded.api.admission import admit_create, admit_update
from chaos.embedded.api.bootstrap import create_bootstrap
from chaos.embedded.api.convert import as_served, as_stored
from chaos.embedded.api.errors import StatusError
from chaos.embedded.resources import (
    AUTOSCALER_V1,
    HORIZONTAL_POD_AUTOSCALER,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    RESOURCE_QUOTA,
    STORAGE_CLASS,
    Resource,
)
from chaos.embedded.store import Store

CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
VOLUME = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/d"}}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
AUTOSCALER: dict[str, Any] = {"scaleTargetRef": TARGET, "maxReplicas": 3}


@pytest.fixture
def store() -> Store:
    made = Store()
    create_bootstrap(made)
    return made


def create(store: Store, resource: Resource, spec: dict[str, Any], **more: Any) -> Any:
    meta = {"name": "x"} | ({"namespace": "default"} if resource.namespaced else {})
    return store.create(resource, admit_create(store, resource, {"metadata": meta, "spec": spec, **more}))


def causes(store: Store, resource: Resource, spec: dict[str, Any], **more: Any) -> list[str]:
    with pytest.raises(StatusError) as refused:
        create(store, resource, spec, **more)
    assert refused.value.code == 422
    return [f"{one['field']}: {one['message']}" for one in (refused.value.details or {})["causes"]]


def test_a_claim_gets_the_default_class_a_finalizer_and_its_mode(store: Store) -> None:
    made = create(store, PERSISTENT_VOLUME_CLAIM, CLAIM)
    assert made["spec"] == {**CLAIM, "volumeMode": "Filesystem", "storageClassName": "standard"}
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert made["status"] == {"phase": "Pending"}


def test_a_claim_of_no_class_stays_one(store: Store) -> None:
    assert create(store, PERSISTENT_VOLUME_CLAIM, {**CLAIM, "storageClassName": ""})["spec"]["storageClassName"] == ""


def test_a_volume_is_kept_unless_it_says_otherwise(store: Store) -> None:
    made = create(store, PERSISTENT_VOLUME, VOLUME)
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert made["spec"]["hostPath"] == {"path": "/d", "type": ""}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"accessModes": []}, "spec.accessModes: Required value: at least 1 access mode is required"),
        ({"accessModes": ["Often"]}, 'spec.accessModes: Unsupported value: "Often": supported values: '
         '"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"'),
        ({"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]},
         "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"),
        ({"resources": {}}, "spec.resources[storage]: Required value"),
        ({"resources": {"requests": {"storage": "0"}}},
         'spec.resources[storage]: Invalid value: "0": must be greater than zero'),
        ({"volumeMode": "Tape"}, 'spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"'),
        ({"dataSource": {"kind": "X", "apiGroup": "x.y"}}, "spec.dataSource.name: Required value"),
    ],
)  # fmt: skip
def test_a_claim_is_refused_in_kubernetes_words(store: Store, change: dict[str, Any], cause: str) -> None:
    assert cause in causes(store, PERSISTENT_VOLUME_CLAIM, {**CLAIM, **change})


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"accessModes": []}, "spec.accessModes: Required value"),
        ({"capacity": {}}, "spec.capacity: Required value"),
        ({"capacity": {"storage": "-1"}},
         "spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity"),
        ({"persistentVolumeReclaimPolicy": "Burn"}, 'spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": '
         'supported values: "Delete", "Recycle", "Retain"'),
        ({"nfs": {"server": "s", "path": "/p"}}, "spec.nfs: Forbidden: may not specify more than 1 volume type"),
        ({"hostPath": {"path": "/a/../b"}}, "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"),
        ({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"},
         "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"),
        ({"nodeAffinity": {}}, "spec.nodeAffinity.required: Required value: must specify required node constraints"),
    ],
)  # fmt: skip
def test_a_volume_is_refused_in_kubernetes_words(store: Store, change: dict[str, Any], cause: str) -> None:
    assert cause in causes(store, PERSISTENT_VOLUME, {**VOLUME, **change})


def test_a_local_volume_must_say_where_it_is(store: Store) -> None:
    spec = {key: value for key, value in VOLUME.items() if key != "hostPath"} | {"local": {"path": "/d"}}
    assert causes(store, PERSISTENT_VOLUME, spec) == [
        "spec.nodeAffinity: Required value: Local volume requires node affinity"
    ]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"provisioner": ""}, "provisioner: Required value"),
        ({"reclaimPolicy": "Recycle"},
         'reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"'),
        ({"volumeBindingMode": "Soon"},
         'volumeBindingMode: Unsupported value: "Soon": supported values: "Immediate", "WaitForFirstConsumer"'),
    ],
)  # fmt: skip
def test_a_class_is_refused_in_kubernetes_words(store: Store, change: dict[str, Any], cause: str) -> None:
    with pytest.raises(StatusError) as refused:
        admit_create(store, STORAGE_CLASS, {"metadata": {"name": "x"}, "provisioner": "a/b", **change})
    assert cause in [f"{one['field']}: {one['message']}" for one in (refused.value.details or {})["causes"]]


def test_a_claim_may_not_change_but_for_its_size_where_its_class_lets_it(store: Store) -> None:
    held = create(store, PERSISTENT_VOLUME_CLAIM, CLAIM)
    with pytest.raises(StatusError, match="spec is immutable after creation except"):
        admit_update(store, PERSISTENT_VOLUME_CLAIM, held, {**held, "spec": {**held["spec"], "storageClassName": "b"}})
    more = {**held, "spec": {**held["spec"], "resources": {"requests": {"storage": "2Gi"}}}}
    with pytest.raises(StatusError, match="Only bound persistent volume claims can be expanded"):
        admit_update(store, PERSISTENT_VOLUME_CLAIM, held, more)
    status = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    held, more = {**held, "status": status}, {**more, "status": status}
    with pytest.raises(StatusError, match="the storageclass that provisions the pvc must support resize"):
        admit_update(store, PERSISTENT_VOLUME_CLAIM, held, more)
    store.mutate(STORAGE_CLASS, "", "standard", lambda new: new.update(allowVolumeExpansion=True))
    assert admit_update(store, PERSISTENT_VOLUME_CLAIM, held, more)["spec"]["resources"]["requests"] == {
        "storage": "2Gi"
    }


@pytest.mark.parametrize(
    ("hard", "words"),
    [
        ({"requests.storage": "1500Mi"}, "requested: requests.storage=1Gi, used: requests.storage=1Gi, limited: "
                                         "requests.storage=1500Mi"),
        ({"persistentvolumeclaims": "1"}, "limited: persistentvolumeclaims=1"),
        ({"standard.storageclass.storage.k8s.io/requests.storage": "1Gi"}, "limited: standard.storageclass"),
        ({"standard.storageclass.storage.k8s.io/persistentvolumeclaims": "1"}, "limited: standard.storageclass"),
        ({"count/persistentvolumeclaims": "1"}, "limited: count/persistentvolumeclaims=1"),
    ],
)  # fmt: skip
def test_quotas_count_claims_and_what_they_ask_for(store: Store, hard: dict[str, str], words: str) -> None:
    create(store, RESOURCE_QUOTA, {"hard": hard})
    create(store, PERSISTENT_VOLUME_CLAIM, CLAIM)
    second = {"metadata": {"name": "y", "namespace": "default"}, "spec": CLAIM}
    with pytest.raises(StatusError, match="exceeded quota: x") as refused:
        admit_create(store, PERSISTENT_VOLUME_CLAIM, second)
    assert words in refused.value.message
    elsewhere = {"metadata": {"name": "y", "namespace": "default"}, "spec": {**CLAIM, "storageClassName": "other"}}
    if "storageclass" in next(iter(hard)):
        admit_create(store, PERSISTENT_VOLUME_CLAIM, elsewhere)


def test_the_default_class_is_there(store: Store) -> None:
    held = store.get(STORAGE_CLASS, "", "standard")
    assert (held["provisioner"], held["volumeBindingMode"], held["reclaimPolicy"]) == (
        claims.PROVISIONER,
        "WaitForFirstConsumer",
        "Delete",
    )
    assert claims.default_class(store) is held


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"maxReplicas": 0}, "spec.maxReplicas: Required value: must be set and greater than 0"),
        ({"minReplicas": 9}, "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"),
        ({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment"}},
         "spec.scaleTargetRef.name: Required value"),
        ({"metrics": [{"type": "Resource"}]},
         "spec.metrics[0].resource: Required value: must populate information for the given metric source"),
        ({"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]},
         "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a "
         "target utilization"),
        ({"behavior": {"scaleUp": {"policies": [{"type": "Often", "value": 0, "periodSeconds": 1}]}}},
         'spec.behavior.scaleUp.policies[0].type: Unsupported value: "Often": supported values: "Percent", "Pods"'),
        ({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 3601}}},
         "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600"),
    ],
)  # fmt: skip
def test_an_autoscaler_is_refused_in_kubernetes_words(store: Store, change: dict[str, Any], cause: str) -> None:
    assert cause in causes(store, HORIZONTAL_POD_AUTOSCALER, {**AUTOSCALER, **change})


def test_an_autoscaler_aims_at_the_cpu_unless_told_otherwise(store: Store) -> None:
    made = create(store, HORIZONTAL_POD_AUTOSCALER, {**AUTOSCALER, "behavior": {"scaleUp": {"selectPolicy": "Min"}}})
    target = {"type": "Utilization", "averageUtilization": 80}
    assert made["spec"]["minReplicas"] == 1
    assert made["spec"]["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    assert made["spec"]["behavior"]["scaleUp"]["selectPolicy"] == "Min"
    assert len(made["spec"]["behavior"]["scaleUp"]["policies"]) == 2
    assert "stabilizationWindowSeconds" not in made["spec"]["behavior"]["scaleDown"]


def test_version_one_of_an_autoscaler_loses_nothing_of_version_two(store: Store) -> None:
    memory = {
        "type": "Resource",
        "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1"}},
    }
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    made = create(
        store, HORIZONTAL_POD_AUTOSCALER, {**AUTOSCALER, "metrics": [cpu, memory], "behavior": {"scaleUp": {}}}
    )
    first = as_served(AUTOSCALER_V1, made)
    assert (first["apiVersion"], first["spec"]["targetCPUUtilizationPercentage"]) == ("autoscaling/v1", 50)
    assert "metrics" not in first["spec"]
    assert as_stored(AUTOSCALER_V1, first)["spec"] == made["spec"]
