"""AdmissionReview: the request to a webhook, and its answer. Pure.

k8s.io/apiserver/pkg/admission/plugin/webhook/request; the words of a bad answer are Kubernetes' own.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from chaos.embedded.api import decode
from chaos.embedded.api.asked import Asked
from chaos.embedded.api.errors import StatusError
from chaos.embedded.resources import Resource
from chaos.embedded.store import copy

_GROUP: Final = "admission.k8s.io"
_KIND: Final = "AdmissionReview"


class BadAnswer(ValueError):
    """The response is no valid answer; the text says why, in Kubernetes' words."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A webhook's answer. `patch` is a JSON patch, empty without one."""

    allowed: bool
    patch: Any = ()
    result: Mapping[str, Any] | None = None
    warnings: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def version_of(versions: Sequence[str]) -> str:
    """The first version of AdmissionReview that both sides support."""
    for version in versions:
        if version in ("v1", "v1beta1"):
            return version
    raise BadAnswer(
        "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
    )


def review(asked: Asked, resource: Resource, uid: str, version: str) -> dict[str, Any]:
    """The AdmissionReview to send; `resource` is the one as which the request matched a rule."""
    group, of, kind = asked.object_kind
    matched = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    own = {"group": group, "version": of, "kind": kind}
    user = asked.user
    request: dict[str, Any] = {
        "uid": uid,
        "kind": own if resource == asked.resource else matched,
        "resource": _resource(resource),
        "requestKind": own,
        "requestResource": _resource(asked.resource),
        "operation": asked.operation,
        "userInfo": {"username": user.name, "groups": list(user.groups)}
        | ({"uid": user.uid} if user.uid else {})
        | ({"extra": dict(user.extra)} if user.extra else {}),
        "object": _typed(asked.object, own),
        "oldObject": _typed(asked.old, own),
        "dryRun": asked.dry,
        "options": dict(asked.options) if asked.options else None,
    }
    if asked.subresource:
        request["subResource"] = request["requestSubResource"] = asked.subresource
    if asked.name:
        request["name"] = asked.name
    if asked.within:
        request["namespace"] = asked.within
    return {"kind": _KIND, "apiVersion": f"{_GROUP}/{version}", "request": request}


def _resource(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


def _typed(obj: Mapping[str, Any] | None, kind: Mapping[str, str]) -> dict[str, Any] | None:
    if obj is None:
        return None
    group, version = kind["group"], kind["version"]
    return {"kind": kind["kind"], "apiVersion": f"{group}/{version}" if group else version, **obj}


def read_answer(body: bytes, *, uid: str, version: str, mutating: bool) -> Answer:
    """Parse a response's body. Raises BadAnswer, which distinguishes as Kubernetes does: an undecodable body is a
    failed call, a decodable misfit an invalid response.
    """
    value = _decoded(body)
    response = value.get("response")
    if response is None:
        raise BadAnswer("received invalid webhook response: webhook response was absent")
    if version == "v1":
        _check_envelope(value, response, uid)
    patch = _patch(response, strict=version == "v1", mutating=mutating)
    return Answer(
        response.get("allowed", False),
        patch,
        response.get("status"),
        response.get("warnings") or (),
        response.get("auditAnnotations") or {},
    )


_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    "uid": (str, "types.UID"),
    "allowed": (bool, "bool"),
    "patch": (str, "[]uint8"),
    "patchType": (str, "v1.PatchType"),
    "status": (dict, "v1.Status"),
    "warnings": (list, "[]string"),
    "auditAnnotations": (dict, "map[string]string"),
}
_JSON: Final[Mapping[type, str]] = {bool: "bool", str: "string", dict: "object", list: "array"}


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        value = decode.read(body, "application/json").value
    except decode.Undecodable as error:
        raise BadAnswer(f"failed to call webhook: {error}") from None
    if not isinstance(value, dict):
        got = _JSON.get(type(value), "number")
        why = f"json: cannot unmarshal {got} into Go value of type {decode.HEAD}"
        raise BadAnswer(f"failed to call webhook: couldn't get version/kind; json parse error: {why}")
    if value.get("kind") == "Status" and value.get("status") != "Success":
        raise BadAnswer(f"failed to call webhook: {value.get('message') or 'unknown'}")
    response = value.get("response")
    if response is None:
        return value
    if not isinstance(response, dict):
        raise BadAnswer(f"failed to call webhook: {_mismatch('response', response, 'v1.AdmissionResponse')}")
    for name, (kind, go) in _TYPES.items():
        if response.get(name) is not None and not isinstance(response[name], kind):
            raise BadAnswer(f"failed to call webhook: {_mismatch(f'response.{name}', response[name], go)}")
    texts = [*(response.get("warnings") or ()), *(response.get("auditAnnotations") or {}).values()]
    for text in texts:
        if not isinstance(text, str):
            raise BadAnswer(f"failed to call webhook: {_mismatch('response.warnings', text, 'string')}")
    return value


def _mismatch(path: str, value: Any, go: str) -> str:
    owner = "AdmissionReview" if path == "response" else "AdmissionResponse"
    got = _JSON.get(type(value), "number")
    return f"json: cannot unmarshal {got} into Go struct field {owner}.{path} of type {go}"


def _check_envelope(value: Mapping[str, Any], response: Mapping[str, Any], uid: str) -> None:
    if response.get("uid", "") != uid:
        why = f'expected response.uid="{uid}", got "{response.get("uid", "")}"'
        raise BadAnswer(f"received invalid webhook response: {why}")
    given = f"{value.get('apiVersion') or '/'}, Kind={value.get('kind') or ''}"
    if given != f"{_GROUP}/v1, Kind={_KIND}":
        why = f"expected webhook response of {_GROUP}/v1, Kind={_KIND}, got {given}"
        raise BadAnswer(f"received invalid webhook response: {why}")


def _patch(response: Mapping[str, Any], *, strict: bool, mutating: bool) -> Any:
    text, kind = response.get("patch") or "", response.get("patchType")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        bad = next((index for index, char in enumerate(text) if not (char.isalnum() or char in "+/=")), len(text))
        raise BadAnswer(f"failed to call webhook: illegal base64 data at input byte {bad}") from None
    why = ""
    if not mutating:
        if strict and data:
            why = "validating webhook may not return response.patch"
        elif strict and kind is not None:
            why = "validating webhook may not return response.patchType"
    elif strict and data and kind is None:
        why = "webhook returned response.patch but not response.patchType"
    elif strict and not data and kind is not None:
        why = "webhook returned response.patchType but not response.patch"
    elif strict and kind == "":
        why = 'webhook returned invalid response.patchType of ""'
    if why:
        raise BadAnswer(f"received invalid webhook response: {why}")
    if not data or not mutating:
        return ()
    if strict and kind != "JSONPatch":
        raise BadAnswer(f'unsupported patch type "{kind}"')
    try:
        patch = orjson.loads(data)
    except orjson.JSONDecodeError:
        patch = None
    if patch is None:
        try:
            decode.read(data, "application/json")
            why = "json: cannot unmarshal null into Go value of type jsonpatch.Patch"
        except decode.Undecodable as error:
            why = str(error).removeprefix("couldn't get version/kind; json parse error: ")
        raise BadAnswer(f"received undecodable patch in webhook response: {why}")
    if not isinstance(patch, list) or not all(isinstance(one, dict) for one in patch):
        got = _JSON.get(type(patch), "number")
        why = f"json: cannot unmarshal {got} into Go value of type jsonpatch.Patch"
        raise BadAnswer(f"received undecodable patch in webhook response: {why}")
    return patch


def denial(name: str, result: Mapping[str, Any] | None) -> StatusError:
    """The StatusError of a webhook's denial, with its status, of at least 400."""
    status = dict(result or {})
    by = f'admission webhook "{name}" denied the request'
    told = status.get("message") or status.get("reason")
    code = status.get("code")
    return StatusError(
        code if isinstance(code, int) and code >= 400 else 400,
        f"{by}: {told}" if told else f"{by} without explanation",
        reason=str(status.get("reason") or ""),
        details=copy(status["details"]) if isinstance(status.get("details"), dict) else None,
    )


def failure(name: str, why: str) -> StatusError:
    """The StatusError of a webhook that could not be called and fails closed."""
    return internal(f'failed calling webhook "{name}": {why}')


def internal(text: str) -> StatusError:
    """StatusError 500 in the words of k8s.io/apimachinery's NewInternalError."""
    return StatusError(500, f"Internal error occurred: {text}", details={"causes": [{"message": text}]})
