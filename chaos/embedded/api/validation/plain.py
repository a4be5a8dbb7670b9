"""Validation of small kinds: ConfigMap, Secret, Lease, Event, PriorityClass, ControllerRevision, Node."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Final

from chaos.embedded.api.errors import not_allowed, required, too_long, unsupported, wrong
from chaos.embedded.api.validation import placement
from chaos.embedded.api.validation.addresses import network
from chaos.embedded.api.validation.names import Causes, config_key, each, not_negative, qualified
from chaos.embedded.resources import Object

_LARGEST: Final = 1024 * 1024
_HIGHEST: Final = 1_000_000_000
_SYSTEM_CLASSES: Final = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_REDACTED: Final = "<secret contents redacted>"


def config_map(obj: Object) -> Causes:
    size, binary = 0, obj.get("binaryData") or {}
    for key, value in sorted((obj.get("data") or {}).items()):
        yield from each(f"data[{key}]", key, config_key(key))
        if key in binary:
            yield wrong(f"data[{key}]", key, "duplicate of key present in binaryData")
        size += len(value.encode())
    for key, value in sorted(binary.items()):
        yield from each(f"binaryData[{key}]", key, config_key(key))
        size += len(_decoded(value))
    if size > _LARGEST:
        yield too_long("[]", _LARGEST)


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        return b""


def secret(obj: Object) -> Causes:
    data: Mapping[str, str] = obj.get("data") or {}
    for key in sorted(data):
        yield from each(f"data[{key}]", key, config_key(key))
    if sum(len(_decoded(value)) for value in data.values()) > _LARGEST:
        yield too_long("data", _LARGEST)
    account = "kubernetes.io/service-account.name"
    match obj.get("type", "Opaque"):
        case "kubernetes.io/service-account-token":
            if not (obj["metadata"].get("annotations") or {}).get(account):
                yield required(f"metadata.annotations[{account}]")
        case "kubernetes.io/dockercfg":
            yield from _json_of(data, ".dockercfg")
        case "kubernetes.io/dockerconfigjson":
            yield from _json_of(data, ".dockerconfigjson")
        case "kubernetes.io/basic-auth":
            if "username" not in data and "password" not in data:
                yield required("data[username]")
                yield required("data[password]")
        case "kubernetes.io/ssh-auth":
            if not data.get("ssh-privatekey"):
                yield required("data[ssh-privatekey]")
        case "kubernetes.io/tls":
            for key in ("tls.crt", "tls.key"):
                if key not in data:
                    yield required(f"data[{key}]")


def _json_of(data: Mapping[str, str], key: str) -> Causes:
    if key not in data:
        yield required(f"data[{key}]")
        return
    text = _decoded(data[key])
    try:
        if isinstance(json.loads(text), dict):
            return
        fault = "json: cannot unmarshal value into Go value of type map[string]interface {}"
    except ValueError:
        first = text[:1].decode(errors="replace")
        fault = (
            f"invalid character '{first}' looking for beginning of value" if text else "unexpected end of JSON input"
        )
    yield wrong(f"data[{key}]", _REDACTED, fault)


def lease(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    if spec.get("leaseDurationSeconds", 1) <= 0:
        yield wrong("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0")
    yield from not_negative(spec.get("leaseTransitions"), "spec.leaseTransitions")


def event(obj: Object, controller: str = "reportingComponent") -> Causes:
    """Of the core group; `controller` is the name of the reporter's field."""
    about, namespace = obj.get("involvedObject") or {}, obj["metadata"].get("namespace", "")
    theirs, mismatch = about.get("namespace", ""), "does not match event.namespace"
    if obj.get("eventTime") is None:
        if theirs != namespace and (theirs or namespace not in ("", "default")):
            yield wrong("involvedObject.namespace", theirs, mismatch)
        return
    if not theirs and namespace not in ("default", "kube-system"):
        yield wrong("involvedObject.namespace", theirs, mismatch)
    reporter = obj.get("reportingComponent", "")
    if not reporter:
        yield required(controller)
    yield from each(controller, reporter, qualified(reporter))
    for name, limit in (("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)):
        text = obj.get(name, "")
        if not text and name != "message":
            yield required(name)
        if len(text) > limit:
            yield wrong(name, "", f"can have at most {limit} characters")


_DEPRECATED: Final = ("firstTimestamp", "lastTimestamp", "count", "source")  # of the core group's form


def event_of_its_group(obj: Object) -> Causes:
    """Of events.k8s.io, on its stored form, whose names the messages have."""
    yield from event(obj, "reportingController")
    if obj.get("eventTime") is None:
        yield required("eventTime")
    if (series := obj.get("series")) is not None:
        if series.get("count", 0) < 2:
            yield wrong("series.count", "", "should be at least 2")
        if series.get("lastObservedTime") is None:
            yield required("series.lastObservedTime")
    if obj.get("type", "") not in ("Normal", "Warning"):
        yield wrong("type", "", f"has invalid value: {obj.get('type', '')}")
    for name in _DEPRECATED:
        if obj.get(name):
            yield wrong(name, "", "needs to be unset")


def priority_class(obj: Object) -> Causes:
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    if name.startswith("system-"):
        if _SYSTEM_CLASSES.get(name) != value:
            known = f"{name} is not a known system priority class"
            if name in _SYSTEM_CLASSES:
                known = f"value of {name} PriorityClass must be {_SYSTEM_CLASSES[name]}"
            words = f"priority class names with 'system-' prefix are reserved for system use only. error: {known}"
            yield not_allowed("metadata.name", words)
    elif value > _HIGHEST:
        yield not_allowed("value", f"maximum allowed value of a user defined priority is {_HIGHEST}")
    policy = obj.get("preemptionPolicy")
    if policy == "":
        yield required("preemptionPolicy")
    elif policy is not None and policy not in ("PreemptLowerPriority", "Never"):
        yield unsupported("preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))


def controller_revision(obj: Object) -> Causes:
    yield from not_negative(obj.get("revision"), "revision")
    if obj.get("data") is None:
        yield required("data", "data is mandatory")
    elif not isinstance(obj["data"], dict):
        yield required("data", "data must be a valid JSON object")


def node(obj: Object) -> Causes:
    spec = obj.get("spec") or {}
    yield from placement.taints(spec.get("taints") or [], "metadata.taints")
    for index, text in enumerate(spec.get("podCIDRs") or []):
        yield from network(text, f"spec.podCIDRs[{index}]")
    if (text := (obj["metadata"].get("annotations") or {}).get(_AVOIDED)) is not None:
        try:
            json.loads(text)
        except ValueError:
            words = f"invalid character '{text[:1]}' looking for beginning of value"
            yield wrong("metadata.annotations.AvoidPods", _AVOIDED, words)


_AVOIDED: Final = "scheduler.alpha.kubernetes.io/preferAvoidPods"


_FINALIZERS: Final = ("kubernetes", "orphan", "foregroundDeletion")


def namespace(obj: Object) -> Causes:
    for one in (obj.get("spec") or {}).get("finalizers") or []:
        yield from each("spec.finalizers", one, qualified(one))
        if "/" not in one and one not in _FINALIZERS:
            yield wrong("spec.finalizers", one, "name is neither a standard finalizer name nor is it fully qualified")
