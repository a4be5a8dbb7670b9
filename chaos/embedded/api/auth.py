"""Authentication and authorization: client certificates, service-account tokens, impersonation; RBAC.

Authorization is Kubernetes' RBAC (k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac): additive, evaluated against the
roles and bindings in the store at each request. Called by the server for every request and by the review kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.tokens import BadToken, Identity, TokenIssuer
from chaos.embedded.resources import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING, Object
from chaos.embedded.store import Store

MASTERS: Final = "system:masters"
Rule = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class User:
    """The user of a request."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, list[str]] = field(default_factory=dict)


ANONYMOUS: Final = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a request asks for. A non-resource request sets `path` alone."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def target(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def user_of_identity(identity: Identity) -> User:
    return User(
        identity.user,
        ("system:serviceaccounts", f"system:serviceaccounts:{identity.namespace}", "system:authenticated"),
        identity.uid,
        identity.extra,
    )


def user_of_certificate(subject: Any) -> User:
    """The user of a certificate's subject, as Python's ssl returns it: CN is the name, each O a group."""
    parts = [pair for relative in subject for pair in relative]
    name = next((value for key, value in parts if key == "commonName"), "")
    groups = tuple(value for key, value in parts if key == "organizationName")
    return User(name, (*groups, "system:authenticated"))


def authenticate(issuer: TokenIssuer, authorization: str, certificate: Mapping[str, Any] | None) -> User:
    """The request's user; anonymous without credentials. Raises StatusError 401 for bad ones."""
    if certificate and certificate.get("subject"):
        return user_of_certificate(certificate["subject"])
    if not authorization:
        return ANONYMOUS
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise StatusError(401, "Unauthorized")
    try:
        return user_of_identity(issuer.verify(token.strip()))
    except BadToken as error:
        raise StatusError(401, "Unauthorized") from error


def rule_allows(rule: Rule, asked: Attributes) -> bool:
    """Whether one rule of a role allows the request."""
    verbs = rule.get("verbs") or []
    if "*" not in verbs and asked.verb not in verbs:
        return False
    if asked.path:
        return any(
            url == "*" or url == asked.path or (url.endswith("*") and asked.path.startswith(url[:-1]))
            for url in rule.get("nonResourceURLs") or []
        )
    groups, resources, names = rule.get("apiGroups") or [], rule.get("resources") or [], rule.get("resourceNames") or []
    if "*" not in groups and asked.group not in groups:
        return False
    wanted = {"*", asked.target} | ({f"*/{asked.subresource}"} if asked.subresource else set())
    return not wanted.isdisjoint(resources) and (not names or asked.name in names)


class Authorizer:
    """RBAC over the store's roles and bindings."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def allowed(self, user: User, asked: Attributes) -> bool:
        return MASTERS in user.groups or any(rule_allows(rule, asked) for rule in self.rules(user, asked.namespace))

    def rules(self, user: User, namespace: str) -> Iterator[Rule]:
        """All rules that bind the user, cluster-wide and in the namespace."""
        for binding in self._store.list(CLUSTER_ROLE_BINDING):
            if _binds(binding, user):
                yield from self._role(binding["roleRef"], "") or ()
        if namespace:
            for binding in self._store.list(ROLE_BINDING, namespace):
                if _binds(binding, user):
                    yield from self._role(binding["roleRef"], namespace) or ()

    def _role(self, reference: Mapping[str, str], namespace: str) -> list[Rule] | None:
        if reference["kind"] == "ClusterRole":
            role = self._store.find(CLUSTER_ROLE, "", reference["name"])
        else:
            role = self._store.find(ROLE, namespace, reference["name"])
        if role is None:
            return None
        rules: list[Rule] = list(role.get("rules") or [])
        for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []:
            from chaos.embedded.controllers.labels import matches

            for other in self._store.list(CLUSTER_ROLE):
                if other is not role and matches(selector, other["metadata"].get("labels")):
                    rules += other.get("rules") or []
        return rules

    def uncovered(self, user: User, rules: list[Rule], namespace: str) -> list[Rule]:
        """What the user does not hold of the rules, by resource and name; granting it would be an escalation."""
        if MASTERS in user.groups:
            return []
        held = list(self.rules(user, namespace))
        missing: dict[_Atom, list[str]] = {}
        for asked in (atom for rule in rules for atom in _atoms(rule)):
            if not any(_covers(one, asked) for one in held):
                whole = asked if asked.url else replace(asked, verb="")  # verbs of a path are told one by one
                missing.setdefault(whole, []).append(asked.verb)
        return [_as_rule(atom, verbs) for atom, verbs in missing.items()]

    def role_rules(self, reference: Mapping[str, str], namespace: str) -> list[Rule] | None:
        """The rules of a binding's role; None when there is no such role."""
        return self._role(reference, namespace)


def _binds(binding: Object, user: User) -> bool:
    for subject in binding.get("subjects") or []:
        kind, name = subject["kind"], subject["name"]
        if kind == "User" and name == user.name:
            return True
        if kind == "Group" and name in user.groups:
            return True
        if kind == "ServiceAccount":
            namespace = subject.get("namespace") or binding["metadata"].get("namespace", "")
            if user.name == f"system:serviceaccount:{namespace}:{name}":
                return True
    return False


@dataclass(frozen=True, slots=True)
class _Atom:
    verb: str
    group: str = ""
    resource: str = ""
    name: str | None = None  # None: of every name
    url: str = ""


def _atoms(rule: Rule) -> Iterator[_Atom]:
    for verb in rule.get("verbs") or []:
        for url in rule.get("nonResourceURLs") or []:
            yield _Atom(verb, url=url)
        for group in rule.get("apiGroups") or []:
            for resource in rule.get("resources") or []:
                for name in rule.get("resourceNames") or [None]:
                    yield _Atom(verb, group, resource, name)


def _as_rule(atom: _Atom, verbs: list[str]) -> Rule:
    if atom.url:
        return {"nonResourceURLs": [atom.url], "verbs": verbs[:1]}
    name = {} if atom.name is None else {"resourceNames": [atom.name]}
    return {"apiGroups": [atom.group], "resources": [atom.resource], **name, "verbs": verbs}


def _covers(rule: Rule, asked: _Atom) -> bool:
    verbs = rule.get("verbs") or []
    if "*" not in verbs and asked.verb not in verbs:
        return False
    if asked.url:
        return any(
            url in ("*", asked.url) or (url.endswith("*") and asked.url.startswith(url[:-1]))
            for url in rule.get("nonResourceURLs") or []
        )
    groups, resources, names = rule.get("apiGroups") or [], rule.get("resources") or [], rule.get("resourceNames") or []
    wanted = {"*", asked.resource} | ({f"*/{asked.resource.partition('/')[2]}"} if "/" in asked.resource else set())
    return (
        ("*" in groups or asked.group in groups)
        and not wanted.isdisjoint(resources)
        and (not names or asked.name in names)
    )
