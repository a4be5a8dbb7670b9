"""Escalation checks: writes of roles and bindings, and impersonation.

Roles and bindings follow k8s.io/kubernetes/pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/
policybased, for every way of writing: create, update, each kind of patch, apply, and their dry runs. Impersonation
follows k8s.io/apiserver/pkg/endpoints/filters/impersonation.go.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from chaos.embedded.api.auth import MASTERS, Attributes, Authorizer, User
from chaos.embedded.api.calls import Call
from chaos.embedded.api.errors import bad_request, forbidden, not_found
from chaos.embedded.resources import CLUSTER_ROLE, ROLE, Object

RBAC: Final = "rbac.authorization.k8s.io"
_EVERYTHING: Final[list[Mapping[str, Any]]] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]
_COLLECTED: Final = frozenset(("ownerReferences", "finalizers", "managedFields", "resourceVersion"))  # of metadata
_EXTRA: Final = "impersonate-extra-"
Headers = Sequence[tuple[str, str]]


def refuse_escalation(authorizer: Authorizer, call: Call, old: Object | None, new: Object) -> None:
    """Refuse a role or binding that grants more than its writer holds; `old` is what it replaces; `new` is checked
    before its validation, whose messages could tell the writer more. Raises StatusError 403, and 404 for a binding to a
    missing role by a user without the right to bind it.
    """
    if call.resource.group != RBAC or MASTERS in call.user.groups or _only_collected(old, new):
        return
    user, name = call.user, new["metadata"].get("name", "")
    if call.resource.kind.endswith("Binding"):
        reference = {"apiGroup": RBAC, "kind": "", "name": "", **new.get("roleRef", {})}
        if reference["kind"] not in (ROLE.kind, CLUSTER_ROLE.kind) or not reference["name"]:
            return  # validation refuses it
        kind = CLUSTER_ROLE if reference["kind"] == "ClusterRole" else ROLE
        if authorizer.allowed(user, Attributes("bind", RBAC, kind.plural, "", call.namespace, reference["name"])):
            return
        rules = authorizer.role_rules(reference, call.namespace)
        if rules is None:  # whoever made it later would decide what the binding grants
            raise not_found(kind, reference["name"])
    else:
        if authorizer.allowed(user, Attributes("escalate", RBAC, call.resource.plural, "", call.namespace, name)):
            return
        rules = list(new.get("rules") or [])
        if any((one.get("aggregationRule") or {}).get("clusterRoleSelectors") for one in (new, old or {})):
            rules += _EVERYTHING  # it may gather anything, now or later
    missing = authorizer.uncovered(user, rules, call.namespace)
    if missing:
        rights = "\n".join(sorted({_rule_as_go(one) for one in missing}))
        raise forbidden(
            call.resource,
            name,
            f'user "{user.name}" (groups=[{" ".join(_quoted(one) for one in user.groups)}]) is '
            f"attempting to grant RBAC permissions not currently held:\n{rights}",
        )


def _only_collected(old: Object | None, new: Object) -> bool:
    """Whether a write changes only what garbage collection needs to change."""

    def rest(obj: Object) -> dict[str, Any]:
        meta = {key: value for key, value in obj["metadata"].items() if key not in _COLLECTED}
        return {**obj, "metadata": meta}

    return old is not None and rest(old) == rest(new)


def plan_impersonation(headers: Headers) -> tuple[User, list[Attributes]] | None:
    """(the impersonated user, the permissions that it needs); None without impersonation. Raises StatusError 400 for
    identity parts without a user name.
    """
    rows = [(key.lower(), value) for key, value in headers]
    names = [value for key, value in rows if key == "impersonate-user"]
    groups = [value for key, value in rows if key == "impersonate-group"]
    uids = [value for key, value in rows if key == "impersonate-uid"]
    extra: dict[str, list[str]] = {}
    for key, value in rows:
        if key.startswith(_EXTRA):
            extra.setdefault(urllib.parse.unquote(key.removeprefix(_EXTRA)), []).append(value)
    if not names:
        if groups or uids or extra:
            raise bad_request(f"requested {_as_go(groups, uids, extra)} without impersonating a user name")
        return None
    if len(names) > 1 or not names[0] or len(uids) > 1:
        raise bad_request("impersonation needs exactly one user name and at most one UID")
    name = names[0]
    parts = name.split(":")
    if name.startswith("system:serviceaccount:") and len(parts) == 4 and all(parts):
        needs = [Attributes("impersonate", resource="serviceaccounts", namespace=parts[2], name=parts[3])]
        derived = () if groups else ("system:serviceaccounts", f"system:serviceaccounts:{parts[2]}")
    else:
        needs = [Attributes("impersonate", resource="users", name=name)]
        derived = ()
    needs += [Attributes("impersonate", resource="groups", name=group) for group in groups]
    needs += [Attributes("impersonate", "authentication.k8s.io", "uids", name=uid) for uid in uids]
    needs += [
        Attributes("impersonate", "authentication.k8s.io", "userextras", key, name=value)
        for key, values in extra.items()
        for value in values
    ]
    known = "system:unauthenticated" if name == "system:anonymous" else "system:authenticated"
    every = tuple(dict.fromkeys((*groups, *derived, known)))
    return User(name, every, uids[0] if uids else "", extra), needs


def impersonated(user: User, headers: Headers, authorize: Callable[[User, Attributes], None]) -> User:
    """The user as whom the request is made. `authorize` raises StatusError for missing permissions."""
    plan = plan_impersonation(headers)
    if plan is None:
        return user
    other, needs = plan
    for asked in needs:
        authorize(user, asked)
    return other


def _as_go(groups: list[str], uids: list[str], extra: Mapping[str, list[str]]) -> str:
    """A user without a name as Kubernetes prints it: a Go value."""

    def many(values: list[str]) -> str:
        return f"[]string{{{', '.join(_quoted(one) for one in values)}}}"

    held = ", ".join(f"{_quoted(key)}:{many(values)}" for key, values in sorted(extra.items()))
    return (
        f'&user.DefaultInfo{{Name:"", UID:{_quoted(uids[0] if uids else "")}, '
        f"Groups:{many(groups) if groups else '[]string(nil)'}, "
        f"Extra:map[string][]string{f'{{{held}}}' if held else '(nil)'}}}"
    )


def _rule_as_go(rule: Mapping[str, Any]) -> str:
    names = ("apiGroups", "resources", "nonResourceURLs", "resourceNames", "verbs")
    parts = [
        f"{name.replace('api', 'API', 1)[0].upper()}{name.replace('api', 'API', 1)[1:]}:"
        f"[{' '.join(_quoted(one) for one in rule[name])}]"
        for name in names
        if rule.get(name)
    ]
    return "{" + ", ".join(parts) + "}"


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
