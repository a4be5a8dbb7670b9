"""CEL in admission: the conditions of webhooks and the expressions of policies, compiled when they are written.

Variables as in k8s.io/apiserver/pkg/admission/plugin/cel: `object`, `oldObject`, `request`, `namespaceObject`,
`authorizer` (not in messages), with a policy's `params` and `variables`. Objects are untyped, as
those of custom resources are in Kubernetes; built-in kinds are not type-checked here either. The fields of `request`
and `namespaceObject` are declared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from chaos.embedded.api import cel, cel_authorizer
from chaos.embedded.api.asked import Asked
from chaos.embedded.api.auth import Authorizer
from chaos.embedded.api.errors import Cause, StatusError, forbidden, required, wrong
from chaos.embedded.api.webhook_review import review
from chaos.embedded.resources import NAMESPACE, Object, Resource
from chaos.embedded.store import Store

_TEXT: Final[Mapping[str, Any]] = {"type": "string"}


def _struct(**fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "properties": fields, cel.AS_NAMED: True}


def _texts(*names: str) -> Mapping[str, Any]:
    return _struct(**dict.fromkeys(names, _TEXT))


def _list(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "array", "items": item}


def _map(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "additionalProperties": value}


_ANY: Final[Mapping[str, Any]] = {"x-kubernetes-int-or-string": True}
_TIME: Final[Mapping[str, Any]] = {"type": "string", "format": "date-time"}
_NUMBER: Final[Mapping[str, Any]] = {"type": "integer"}
_KIND, _PLURAL = _texts("group", "version", "kind"), _texts("group", "version", "resource")
_REQUEST: Final = _struct(
    **dict.fromkeys(("name", "namespace", "operation", "subResource", "requestSubResource"), _TEXT),
    kind=_KIND,
    requestKind=_KIND,
    resource=_PLURAL,
    requestResource=_PLURAL,
    userInfo=_struct(username=_TEXT, uid=_TEXT, groups=_list(_TEXT), extra=_map(_list(_TEXT))),
    dryRun={"type": "boolean"},
    options=_ANY,
)
_NAMESPACE: Final = _struct(
    metadata=_struct(
        **dict.fromkeys(("name", "generateName", "namespace", "UID", "resourceVersion"), _TEXT),
        creationTimestamp=_TIME,
        deletionTimestamp=_TIME,
        labels=_map(_TEXT),
        annotations=_map(_TEXT),
        deletionGracePeriodSeconds=_NUMBER,
        generation=_NUMBER,
        finalizers=_list(_TEXT),
    ),
    spec=_struct(finalizers=_list(_TEXT)),
    status=_struct(phase=_TEXT),
)
_WORDS: Final = {
    "cel expression must evaluate to a bool": "must evaluate to bool",
    "messageExpression must evaluate to a string": "must evaluate to string",
}


Variables = tuple[tuple[str, str], ...]  # names and expressions, each of which may name those before it


@lru_cache(maxsize=256)
def scope(*, params: bool = False, variables: Variables | None = None, message: bool = False) -> cel.Scope:
    """The variables that an expression, or one that makes a `message`, may name; `variables`: of a policy that has any,
    those before the expression.
    """
    names: dict[str, Mapping[str, Any] | None] = {
        "object": None,
        "oldObject": None,
        "request": _REQUEST,
        "namespaceObject": _NAMESPACE,
    }
    if not message:
        names["authorizer"] = cel.AUTHORIZER
    if params:
        names["params"] = None
    if variables is not None:
        properties = {
            name: _schema_of(text, scope(params=params, variables=variables[:index]))
            for index, (name, text) in enumerate(variables)
        }
        names["variables"] = {"type": "object", "properties": properties}
    return cel.Scope(names)


def _schema_of(text: str, where: cel.Scope) -> Mapping[str, Any]:
    """The type of a policy's variable, as far as it affects the result's type."""
    kinds: tuple[tuple[cel.Result, str], ...] = (("bool", "boolean"), ("string", "string"))
    for result, kind in kinds:
        with contextlib.suppress(cel.Uncompilable):
            compiled(text, where, result)
            return {"type": kind}
    return {"x-kubernetes-int-or-string": True}  # any


@lru_cache(maxsize=1024)
def compiled(text: str, where: cel.Scope, result: cel.Result = "bool") -> cel.Expression:
    """Compile an expression, or return the cached one; raises cel.Uncompilable."""
    return where.compile(text, result=result)


def faults(
    text: str, field: str, where: cel.Scope, result: cel.Result = "bool", *, of: Sequence[str] = ()
) -> Iterator[Cause]:
    """Errors of an expression that is being written; `of`: the types that its result may have, where more than one."""
    if not text.strip():
        yield required(field, "expression is not specified")
        return
    try:
        given = compiled(text, where, result).gives
        if of and given not in of:
            yield wrong(field, text, f"must evaluate to one of [{' '.join(of)}] but got {given}")
    except cel.OtherResult as error:
        yield wrong(field, text, f"{_WORDS[str(error)]} but got {error.given}")
    except cel.Uncompilable as error:
        yield wrong(field, text, str(error))


def values(store: Store, asked: Asked, resource: Resource) -> dict[str, Any]:
    """The variables' values. `resource` is the one that the request matched as."""
    request = review(asked, resource, "", "v1")["request"]
    for name in ("uid", "object", "oldObject"):
        del request[name]
    within = None if asked.resource is NAMESPACE else store.find(NAMESPACE, "", asked.namespace)
    group, version, kind = asked.object_kind
    head = {"apiVersion": f"{group}/{version}" if group else version, "kind": kind}
    from chaos.embedded.api import cel_library

    return {
        "authorizer": cel_authorizer.of_request(asked, cel_library.of_authorizer),
        "object": None if asked.object is None else head | dict(asked.object),
        "oldObject": None if asked.old is None else head | dict(asked.old),
        "request": request,
        "namespaceObject": None if within is None else dict(within),
    }


def evaluated(text: str, where: cel.Scope, held: Mapping[str, Any], result: cel.Result = "bool") -> Any:
    """Evaluate an expression; raises cel.EvaluationFailed in the plugin's words."""
    try:
        return compiled(text, where, result).evaluate(held)
    except cel.EvaluationFailed as error:
        raise cel.EvaluationFailed(f"expression '{text}' resulted in error: {error}") from None


def all_hold(
    conditions: Sequence[Mapping[str, Any]], where: cel.Scope, held: Mapping[str, Any], *, ignore: bool
) -> bool:
    """Whether no condition is false. An error counts when none is: it raises cel.EvaluationFailed, or (`ignore`) makes
    the result False.
    """
    errors: list[str] = []
    for condition in conditions:
        try:
            if evaluated(condition["expression"], where, held) is not True:
                return False
        except cel.EvaluationFailed as error:
            errors.append(str(error))
    if errors and not ignore:
        raise cel.EvaluationFailed(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return not errors


def webhook_conditions_hold(store: Store, hook: Mapping[str, Any], asked: Asked, resource: Resource) -> bool:
    """Whether a webhook's matchConditions hold; raises StatusError 403 on an error when it fails closed."""
    conditions = hook.get("matchConditions") or []
    if not conditions:
        return True
    try:
        ignore = hook.get("failurePolicy") == "Ignore"
        with cel_authorizer.answering(Authorizer(store)):
            return all_hold(conditions, scope(), values(store, asked, resource), ignore=ignore)
    except cel.EvaluationFailed as error:
        raise forbidden(asked.resource, asked.name, str(error)) from None


def refused_by(asked: Asked, message: str, *, code: int, reason: str) -> StatusError:
    """The StatusError of a policy's denial, with its reason."""
    meta: Object = (asked.object or asked.old or {}).get("metadata") or {}
    name = asked.name or meta.get("name") or meta.get("generateName") or "Unknown"
    error = forbidden(asked.resource, str(name), message)
    details = (error.details or {}) | {"causes": [{"message": message}]}
    return StatusError(code, error.message, reason=reason, details=details)
