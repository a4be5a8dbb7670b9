"""A request on a resource, and its answer in JSON: what the server gives to the verbs, and they return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.embedded.api import options
from chaos.embedded.api.asked import Asked, Operation, Said
from chaos.embedded.api.auth import User
from chaos.embedded.api.convert import as_served, stored_kind
from chaos.embedded.api.custom import objects as custom
from chaos.embedded.api.managed import UPDATED, Writer, user_agents_manager
from chaos.embedded.resources import Object, Resource

APPLY: Final = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Call:
    """One request on a resource."""

    user: User
    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    accept: str = ""
    body: bytes = b""
    said: Said = field(default_factory=Said)  # by those whom admission asked
    agent: str = ""  # the User-Agent

    @property
    def stored(self) -> Resource:
        """The kind as which the objects are stored."""
        return stored_kind(self.resource)

    def options(self, *, applying: bool = False) -> options.WriteOptions:
        """The options of a create, update or patch; StatusError 422."""
        return options.write_options(self.verb, self.query, applying=applying)

    def writer(self, manager: str, operation: str = UPDATED) -> Writer:
        """Who owns what this call writes."""
        name = manager or user_agents_manager(self.agent)
        return Writer(name, self.resource.api_version, self.subresource, operation)

    @property
    def _of_versions(self) -> bool:
        """Whether stored objects may have another version than this call's."""
        return self.resource.custom is not None and self.subresource != "scale"

    def asked(
        self,
        operation: Operation,
        obj: dict[str, Any] | None,
        old: Object | None = None,
        *,
        dry: bool,
        kind: tuple[str, str, str] = ("", "", ""),
    ) -> Asked:
        """This request, as admission sees it."""
        return Asked(
            operation,
            self.stored,
            self.user,
            self.namespace,
            self.name or ((obj or {}).get("metadata") or {}).get("name", ""),
            self.subresource,
            obj,
            outward(self, old) if old is not None and self._of_versions else old,
            kind,
            dry,
            options.as_object(operation, self.verb, self.query, applying=self.content_type == APPLY),
            self.said,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A JSON answer."""

    body: Any
    code: int = 200
    warnings: tuple[str, ...] = ()
    audit: str = ""  # what the audit log is to say beside the request


def outward(call: Call, obj: Object) -> Object:
    """Convert a stored object to the call's group and version."""
    if call.stored is not call.resource:
        return as_served(call.resource, obj)
    return custom.as_asked(call.resource, obj) if call.resource.custom is not None else obj


def inward(call: Call, obj: Object) -> Object:
    """Convert an admitted object to its kind's storage version."""
    return custom.as_stored(call.resource, obj) if call.resource.custom is not None else obj
