"""What admission is asked: one operation on one object, by whom, and what those who are asked have to say about it.

k8s.io/apiserver's admission.Attributes. Made by the verbs and the controllers; read by webhooks and policies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from chaos.embedded.api.auth import User
from chaos.embedded.resources import Object, Resource

Json = dict[str, Any]
Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
Again = Callable[[Json], None]  # the built-in plugins' changes, made again in place after a webhook's


@dataclass(slots=True)
class Said:
    """What is to be told besides yes or no: warnings to the client, annotations to the audit log."""

    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)

    def warn(self, text: str) -> None:
        """Once for each text, as Kubernetes' recorder does."""
        if text and text not in self.warnings:
            self.warnings.append(text)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request on its way to the store.

    Attributes:
        resource: that of the request's path.
        object: as it is to be; None for a deletion.
        old: as it is in the store; None for what is not there yet.
        kind: group, version and kind of `object`, where a subresource's is another (`Scale`, `Eviction`).
        options: the request's own, such as a CreateOptions object.
    """

    operation: Operation
    resource: Resource
    user: User
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    object: Json | None = None
    old: Object | None = None
    kind: tuple[str, str, str] = ("", "", "")
    dry: bool = False
    options: Mapping[str, Any] | None = None
    said: Said = field(default_factory=Said)

    @property
    def object_kind(self) -> tuple[str, str, str]:
        """Group, version and kind of the object."""
        return self.kind if self.kind[2] else (self.resource.group, self.resource.version, self.resource.kind)

    @property
    def within(self) -> str:
        """The namespace by whose labels the request is judged: a Namespace's own for itself, "" at cluster scope."""
        return self.name if self.resource.plural == "namespaces" else self.namespace


class Gate(Protocol):
    """Who is asked besides the built-in plugins. Both raise StatusError for a refusal.

    Neither suspends when nobody is to be asked, so that a verb without webhooks stays one atomic step.
    """

    def concerns(self, asked: Asked) -> bool:
        """Whether anybody may have to be asked."""
        ...

    async def mutate(self, asked: Asked, again: Again) -> Json | None:
        """The object with what the mutating webhooks changed."""
        ...

    async def validate(self, asked: Asked) -> None:
        """Pass, or raise."""
        ...


class OpenGate:
    """Asks nobody."""

    def concerns(self, asked: Asked) -> bool:
        return False

    async def mutate(self, asked: Asked, again: Again) -> Json | None:
        return asked.object

    async def validate(self, asked: Asked) -> None:
        return
