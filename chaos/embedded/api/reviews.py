"""TokenReview, access reviews and SelfSubjectReview, none of them stored. Called by the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from chaos.embedded.api import decode
from chaos.embedded.api.auth import Attributes, Authorizer, User, user_of_identity
from chaos.embedded.api.calls import Call, Reply
from chaos.embedded.api.errors import Cause, StatusError, bad_request, invalid_kind, not_allowed, required, wrong
from chaos.embedded.api.tokens import ISSUER, BadToken, TokenIssuer
from chaos.embedded.api.validation.names import each, label_value, validate_label_name
from chaos.embedded.store import now


def _user_info(user: User) -> dict[str, Any]:
    info: dict[str, Any] = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = dict(user.extra)
    return info


_INVALID: Final = "invalid bearer token"


def _refused(field: str, value: Any, why: str) -> StatusError:
    return invalid_kind("authorization.k8s.io", "", "", [wrong(field, value, why)])


class Reviews:
    """Answers the review kinds."""

    def __init__(self, issuer: TokenIssuer, authorizer: Authorizer) -> None:
        self._issuer, self._authorizer = issuer, authorizer

    def answer(self, call: Call) -> Reply:
        """The review with its status."""
        asked = call.options()
        review = decode.body_object(call.resource, call.body, call.content_type, strictness=asked.strictness).object
        spec = review.get("spec") or {}
        kind = call.resource.kind
        if kind == "TokenReview":
            if not spec.get("token"):
                raise bad_request("token is required for TokenReview in authentication")
            review["status"] = self._token(spec)
        elif kind == "SelfSubjectReview":
            review["metadata"]["creationTimestamp"] = now()
            review["status"] = {"userInfo": _user_info(call.user)}
        elif kind == "SelfSubjectRulesReview":
            if not spec.get("namespace"):
                raise bad_request("no namespace on request")
            review["status"] = self._rules(call.user, spec["namespace"])
            review["spec"] = {}
        else:
            user = call.user
            if kind != "SelfSubjectAccessReview":
                if not spec.get("user") and not spec.get("groups"):
                    raise _refused("spec.user", "", "at least one of user or group must be specified")
                user = User(
                    spec.get("user", ""), tuple(spec.get("groups") or []), spec.get("uid", ""), spec.get("extra") or {}
                )
            if kind == "LocalSubjectAccessReview":
                review["metadata"]["namespace"] = call.namespace
                within = (spec.get("resourceAttributes") or {}).get("namespace", "")
                if (path := spec.get("nonResourceAttributes")) is not None:
                    value = {"Path": path.get("path", ""), "Verb": path.get("verb", "")}
                    raise _refused("spec.nonResourceAttributes", value, "disallowed on this kind of request")
                if within != call.namespace:
                    raise _refused("spec.resourceAttributes.namespace", within, "must match metadata.namespace")
            review["status"] = self._access(user, spec)
        return Reply(review, 201)

    def _token(self, spec: dict[str, Any]) -> dict[str, Any]:
        audiences = spec.get("audiences") or [ISSUER]
        try:
            identity = self._issuer.verify(spec.get("token", ""), audiences)
        except BadToken as error:
            why = str(error)
            return {"user": {}, "error": why if why == _INVALID else f"[{_INVALID}, {why}]"}
        return {
            "authenticated": True,
            "audiences": list(identity.audiences),
            "user": _user_info(user_of_identity(identity)),
        }

    def _access(self, user: User, spec: dict[str, Any]) -> dict[str, Any]:
        about: Any = spec.get("resourceAttributes")
        path: Any = spec.get("nonResourceAttributes")
        if about is None and path is None:
            why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise _refused("spec.resourceAttributes", None, why)
        if about is not None and path is not None:
            value = {"Path": path.get("path", ""), "Verb": path.get("verb", "")}
            raise _refused(
                "spec.nonResourceAttributes", value, "cannot be specified in combination with resourceAttributes"
            )
        if causes := list(_selectors(about or {})):
            raise invalid_kind("authorization.k8s.io", "", "", causes)
        if path is not None:
            asked = Attributes(path.get("verb", ""), path=path.get("path", ""))
        else:
            asked = Attributes(
                about.get("verb", ""),
                about.get("group", ""),
                about.get("resource", ""),
                about.get("subresource", ""),
                about.get("namespace", ""),
                about.get("name", ""),
            )
        decision = self._authorizer.decide(user, asked)
        return {"allowed": decision.allowed, **({"reason": decision.reason} if decision.reason else {})}

    def _rules(self, user: User, namespace: str) -> dict[str, Any]:
        rules = list(self._authorizer.rules(user, namespace))
        return {
            "incomplete": False,
            "resourceRules": [rule for rule in rules if not rule.get("nonResourceURLs")],
            "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
        }


def _selectors(about: Mapping[str, Any]) -> Iterator[Cause]:
    """Validate the selectors of a question; the answer does not depend on them, as no rule of RBAC does."""
    for name in ("fieldSelector", "labelSelector"):
        if (selector := about.get(name)) is None:
            continue
        where, raw = f"spec.resourceAttributes.{name}", selector.get("rawSelector", "")
        requirements = selector.get("requirements") or []
        if raw and requirements:
            yield wrong(f"{where}.rawSelector", raw, "may not specified at the same time as requirements")
        if not raw and not requirements:
            words = f"when {where} is specified, requirements or rawSelector is required"
            yield required(f"{where}.requirements", words)
        for index, one in enumerate(requirements):
            yield from _requirement(one, f"{where}.requirements[{index}]", labels=name == "labelSelector")


def _requirement(one: Mapping[str, Any], where: str, *, labels: bool) -> Iterator[Cause]:
    operator, values = one.get("operator", ""), one.get("values") or []
    if not labels and not one.get("key"):
        yield required(f"{where}.key", "must be specified")
    if operator in ("In", "NotIn"):
        if not values:
            yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield not_allowed(f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    else:
        yield wrong(f"{where}.operator", operator, "not a valid selector operator")
    if labels:
        yield from validate_label_name(one.get("key", ""), f"{where}.key")
        for number, value in enumerate(values):
            yield from each(f"{where}.values[{number}]", value, label_value(value))
