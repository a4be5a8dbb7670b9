"""Validation beyond types: the rules that manifests most often break, each naming its field.

Follows k8s.io/kubernetes/pkg/apis/*/validation in field names and wording. Pure: yields causes, raises nothing. Called
by admission once an object has its defaults. A file for each family of kinds; `names` holds what all of them share.
"""

from __future__ import annotations

from typing import Final

from chaos.embedded.api.errors import Cause, gathered
from chaos.embedded.api.validation import (
    access,
    amounts,
    autoscaling,
    claims,
    network,
    plain,
    pods,
    policies,
    storage,
    webhooks,
    workloads,
)
from chaos.embedded.api.validation.names import Causes, validate_meta
from chaos.embedded.api.validation.runnable import unrunnable
from chaos.embedded.resources import EVENTS_EVENT, Object, Resource


def _pod(obj: Object) -> Causes:
    yield from pods.validate_pod(obj)
    yield from network.pod_addresses(obj.get("status") or {})


def _definition(obj: Object) -> Causes:
    from chaos.embedded.api.custom import definitions  # which keeps to the rules of names that are here

    yield from definitions.validate(obj)


_RULES: Final = {
    "Pod": _pod,
    "Deployment": workloads.deployment,
    "ReplicaSet": workloads.replica_set,
    "DaemonSet": workloads.daemon_set,
    "StatefulSet": workloads.stateful_set,
    "Job": workloads.job,
    "CronJob": workloads.cron_job,
    "PodDisruptionBudget": workloads.budget,
    "ControllerRevision": plain.controller_revision,
    "Service": network.service,
    "EndpointSlice": network.endpoint_slice,
    "Endpoints": network.endpoints,
    "NetworkPolicy": network.network_policy,
    "ConfigMap": plain.config_map,
    "Secret": plain.secret,
    "Lease": plain.lease,
    "Event": plain.event,
    "PriorityClass": plain.priority_class,
    "Node": plain.node,
    "Namespace": plain.namespace,
    "LimitRange": amounts.limit_range,
    "ResourceQuota": amounts.resource_quota,
    "PersistentVolumeClaim": claims.claim,
    "PersistentVolume": storage.volume,
    "StorageClass": storage.storage_class,
    "HorizontalPodAutoscaler": autoscaling.autoscaler,
    "Role": access.rules,
    "ClusterRole": access.rules,
    "RoleBinding": access.binding,
    "ClusterRoleBinding": access.binding,
    "MutatingWebhookConfiguration": webhooks.configuration,
    "ValidatingWebhookConfiguration": webhooks.configuration,
    "ValidatingAdmissionPolicy": policies.policy,
    "ValidatingAdmissionPolicyBinding": policies.binding,
    "CustomResourceDefinition": _definition,
}


_META_AFTERWARDS: Final = ("PodDisruptionBudget",)  # whose metadata is looked at when nothing else is wrong


def validate(resource: Resource, obj: Object, *, written: Resource | None = None) -> list[Cause]:
    """Validate an object that has its defaults and matches its schema; `written` is the kind as which it was written,
    where that is another than the stored one.
    """
    about, found = gathered(validate_meta(resource, obj["metadata"])), list[Cause]()
    if written is EVENTS_EVENT:
        found = gathered(plain.event_of_its_group(obj))
    elif (rules := _RULES.get(resource.kind)) is not None:
        found = gathered(rules(obj))
    causes = found or about if resource.kind in _META_AFTERWARDS else about + found
    return causes or gathered(unrunnable(resource.kind, obj))
