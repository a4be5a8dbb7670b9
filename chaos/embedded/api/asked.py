"""A request as admission sees it: one operation on one object, its user, and the warnings that it gathers.

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
    """What admission returns beside its decision: warnings to the client, annotations for the audit log."""

    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    _texts: set[str] = field(default_factory=set)

    def warn(self, text: str) -> None:
        """Add a warning, once per text, as Kubernetes' recorder does."""
        if text and text not in self._texts:
            self._texts.add(text)
            self.warnings.append(text)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request on its way to the store.

    Attributes:
        resource: that of the request's path.
        object: the new object; None for a deletion.
        old: the stored object; None when there is none.
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
        """The namespace whose labels selectors match: a Namespace's own for itself, "" at cluster scope."""
        return self.name if self.resource.plural == "namespaces" else self.namespace


class Gate(Protocol):
    """Admission beside the built-in plugins. `mutate` and `validate` raise StatusError for a refusal.

    Neither suspends when no webhook matches, so that a verb without webhooks stays one atomic step.
    """

    def concerns(self, asked: Asked) -> bool:
        """Whether any webhook or policy may match."""
        ...

    async def mutate(self, asked: Asked, again: Again) -> Json | None:
        """The object with the mutating webhooks' changes."""
        ...

    async def validate(self, asked: Asked) -> None:
        """Return, or raise StatusError."""
        ...


class OpenGate:
    """Admission without webhooks and policies."""

    def concerns(self, asked: Asked) -> bool:
        return False

    async def mutate(self, asked: Asked, again: Again) -> Json | None:
        return asked.object

    async def validate(self, asked: Asked) -> None:
        return
