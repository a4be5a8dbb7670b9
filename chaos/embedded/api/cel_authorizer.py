"""The `authorizer` of admission expressions: whether the user of a request, or a service account, may do something.

The functions and errors are those of k8s.io/apiserver/pkg/cel/library (authz.go). The runtime passes messages alone
through: each object is one, which holds what was asked so far as JSON. Who answers is set around an evaluation
(`answering`), as compiled expressions serve every request. Imported with the first expression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import orjson

from chaos.embedded.api.auth import Attributes, Authorizer, Decision, User
from chaos.embedded.api.validation.names import dns_label, dns_subdomain

if TYPE_CHECKING:
    from chaos.embedded.api.asked import Asked

KINDS: Final = ("Authorizer", "PathCheck", "GroupCheck", "ResourceCheck", "Decision")
REQUESTED: Final = "requestResource"  # a field of the authorizer: the check of what the request itself asks for
_answering: ContextVar[Authorizer] = ContextVar("answering")

Make = Callable[[str, str], Any]  # a kind, and its text: the message
Held = Mapping[str, Any]


@contextmanager
def answering(authorizer: Authorizer) -> Iterator[None]:
    """Evaluate with an authorizer at hand."""
    token = _answering.set(authorizer)
    try:
        yield
    finally:
        _answering.reset(token)


def of_request(asked: Asked, make: Make) -> Any:
    """The value of `authorizer` for a request."""
    user = {"name": asked.user.name, "groups": [*asked.user.groups], "uid": asked.user.uid}
    check = {
        "user": user,
        "group": asked.resource.group,
        "resource": asked.resource.plural,
        "subresource": asked.subresource,
        "namespace": asked.namespace,
        "name": asked.name,
    }
    found = make("Authorizer", orjson.dumps(user).decode())
    getattr(found, REQUESTED).text = orjson.dumps(check).decode()
    return found


def functions(make: Make) -> dict[tuple[str, str], tuple[tuple[str, ...], str, Callable[..., Any]]]:
    """(function, kind that it is called on): kinds of its arguments, kind of its result, implementation."""

    def made(kind: str, state: Held) -> Any:
        return make(kind, orjson.dumps(state).decode())

    def step(kind: str, name: str, *, needed: bool = False) -> Callable[[Any, str], Any]:
        def taken(held: Any, value: str) -> Any:
            if needed and not value.strip():
                raise ValueError(f"{name} must not be empty")
            return made(kind, _state(held) | {name: value})

        return taken

    def path(held: Any, value: str) -> Any:
        if not value.strip():
            raise ValueError("path must not be empty")
        return made("PathCheck", {"user": _state(held), "path": value})

    def service_account(held: Any, namespace: str, name: str) -> Any:
        if dns_subdomain(name):
            raise ValueError("Invalid service account name")
        if dns_label(namespace):
            raise ValueError("Invalid service account namespace")
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
        return made("Authorizer", {"name": f"system:serviceaccount:{namespace}:{name}", "groups": groups, "uid": ""})

    def check(held: Any, verb: str) -> Any:
        found = _decided(_state(held), verb)
        return made("Decision", {"allowed": found.allowed, "reason": found.reason})

    text = ("STRING",)
    return {
        ("path", "Authorizer"): (text, "PathCheck", path),
        ("group", "Authorizer"): (
            text,
            "GroupCheck",
            lambda held, value: made("GroupCheck", {"user": _state(held), "group": value}),
        ),
        ("serviceAccount", "Authorizer"): (("STRING", "STRING"), "Authorizer", service_account),
        ("resource", "GroupCheck"): (text, "ResourceCheck", step("ResourceCheck", "resource", needed=True)),
        **{
            (name, "ResourceCheck"): (text, "ResourceCheck", step("ResourceCheck", name))
            for name in ("subresource", "namespace", "name", "fieldSelector", "labelSelector")
        },
        ("check", "PathCheck"): (text, "Decision", check),
        ("check", "ResourceCheck"): (text, "Decision", check),
        ("allowed", "Decision"): ((), "BOOL", lambda held: _state(held)["allowed"]),
        ("reason", "Decision"): ((), "STRING", lambda held: _state(held)["reason"]),
        ("errored", "Decision"): ((), "BOOL", lambda held: False),  # the roles are in the same store
        ("error", "Decision"): ((), "STRING", lambda held: ""),
    }


def _state(held: Any) -> dict[str, Any]:
    return dict(orjson.loads(held.text))


def _decided(state: Held, verb: str) -> Decision:
    """Answer a check; selectors narrow what is asked for, which no rule of RBAC looks at."""
    user = User(state["user"]["name"], tuple(state["user"]["groups"]), state["user"]["uid"])
    if "path" in state:
        asked = Attributes(verb, path=state["path"])
    else:
        names = ("group", "resource", "subresource", "namespace", "name")
        asked = Attributes(verb, *(state.get(name, "") for name in names))
    return _answering.get().decide(user, asked)
