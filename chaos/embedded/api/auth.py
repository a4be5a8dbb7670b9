"""Authentication and authorization: client certificates, service-account tokens, impersonation; RBAC.

Authorization is Kubernetes' RBAC (k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac): additive, evaluated against the
roles and bindings in the store at each request. Called by the server for every request and by the review kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from chaos.embedded.api.errors import StatusError, bad_request
from chaos.embedded.api.tokens import BadToken, Identity, TokenIssuer
from chaos.embedded.resources import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING, Object
from chaos.embedded.store import Store

MASTERS: Final = "system:masters"
_MOST_RIGHTS: Final = 10_000  # of what a user writes who does not hold all: each is held against all that are held
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


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer of the authorizer; `reason` is empty where nothing is to be said."""

    allowed: bool
    reason: str = ""


class Authorizer:
    """RBAC over the store's roles and bindings."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def allowed(self, user: User, asked: Attributes) -> bool:
        return self.decide(user, asked).allowed

    def decide(self, user: User, asked: Attributes) -> Decision:
        """Whether the user may, and why, in Kubernetes' words: what grants it, or which bound roles are missing."""
        if MASTERS in user.groups:
            return Decision(True)
        missing: list[str] = []
        for binding, subject, rules in self._granted(user, asked.namespace):
            if rules is None:
                role = binding["roleRef"]
                missing.append(f'{role["kind"].lower()}.rbac.authorization.k8s.io "{role["name"]}" not found')
            elif any(rule_allows(rule, asked) for rule in rules):
                return Decision(True, f"RBAC: allowed by {_told_grant(binding, subject)}")
        missing = list(dict.fromkeys(missing))
        told = missing[0] if len(missing) == 1 else f"[{', '.join(missing)}]"
        return Decision(False, f"RBAC: {told}" if missing else "")

    def rules(self, user: User, namespace: str) -> Iterator[Rule]:
        """All rules that bind the user, cluster-wide and in the namespace."""
        for _, _, rules in self._granted(user, namespace):
            yield from rules or ()

    def _granted(self, user: User, namespace: str) -> Iterator[tuple[Object, Mapping[str, Any], list[Rule] | None]]:
        """(binding, its subject that is the user, its role's rules, None without that role)."""
        bindings = [*self._store.list(CLUSTER_ROLE_BINDING)]
        if namespace:
            bindings += self._store.list(ROLE_BINDING, namespace)
        for binding in bindings:
            subject = _bound_subject(binding, user)
            if subject is not None:
                yield binding, subject, self.role_rules(binding["roleRef"], binding["metadata"].get("namespace", ""))

    def role_rules(self, reference: Mapping[str, str], namespace: str) -> list[Rule] | None:
        """The rules of a binding's role; None when there is no such role."""
        if reference["kind"] == "ClusterRole":
            role = self._store.find(CLUSTER_ROLE, "", reference["name"])
        else:
            role = self._store.find(ROLE, namespace, reference["name"])
        return None if role is None else list(role.get("rules") or [])

    def uncovered(self, user: User, rules: list[Rule], namespace: str) -> list[Rule]:
        """What the user does not hold of the rules, by resource and name; granting it would be an escalation."""
        if MASTERS in user.groups:
            return []
        held = list(self.rules(user, namespace))
        if any(_covers(one, _ANYTHING) for one in held):
            rules = [rule for rule in rules if rule.get("nonResourceURLs")]
        if sum(map(_atoms_of, rules)) > _MOST_RIGHTS:
            raise bad_request(
                f"the rules name more than {_MOST_RIGHTS} rights, each verb of each resource of each name"
            )
        missing: dict[_Atom, list[str]] = {}
        for asked in (atom for rule in rules for atom in _atoms(rule)):
            if not any(_covers(one, asked) for one in held):
                whole = asked if asked.url else replace(asked, verb="")  # verbs of a path are told one by one
                missing.setdefault(whole, []).append(asked.verb)
        return [_as_rule(atom, verbs) for atom, verbs in missing.items()]


def _told_grant(binding: Object, subject: Mapping[str, Any]) -> str:
    meta, role = binding["metadata"], binding["roleRef"]
    where = meta.get("namespace")
    held = f'RoleBinding "{meta["name"]}/{where}"' if where else f'ClusterRoleBinding "{meta["name"]}"'
    whom = subject["name"] + (f"/{subject['namespace']}" if subject["kind"] == "ServiceAccount" else "")
    return f'{held} of {role["kind"]} "{role["name"]}" to {subject["kind"]} "{whom}"'


def _bound_subject(binding: Object, user: User) -> Mapping[str, Any] | None:
    """The binding's first subject that is the user."""
    for subject in binding.get("subjects") or []:
        kind, name = subject["kind"], subject["name"]
        if kind == "ServiceAccount":
            namespace = subject.get("namespace") or binding["metadata"].get("namespace", "")
            if user.name == f"system:serviceaccount:{namespace}:{name}":
                return {**subject, "namespace": namespace}
        elif (kind == "User" and name == user.name) or (kind == "Group" and name in user.groups):
            return subject  # type: ignore[no-any-return]
    return None


@dataclass(frozen=True, slots=True)
class _Atom:
    verb: str
    group: str = ""
    resource: str = ""
    name: str | None = None  # None: of every name
    url: str = ""


_ANYTHING: Final = _Atom("*", "*", "*")


def _atoms(rule: Rule) -> Iterator[_Atom]:
    for verb in rule.get("verbs") or []:
        for url in rule.get("nonResourceURLs") or []:
            yield _Atom(verb, url=url)
        for group in rule.get("apiGroups") or []:
            for resource in rule.get("resources") or []:
                for name in rule.get("resourceNames") or [None]:
                    yield _Atom(verb, group, resource, name)


def _atoms_of(rule: Rule) -> int:
    """How many rights a rule names."""
    verbs, groups, resources, names, urls = (
        len(rule.get(part) or []) for part in ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
    )
    return verbs * (urls + groups * resources * (names or 1))


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
