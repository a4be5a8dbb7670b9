"""Admission of a write in Kubernetes' order: mutating webhooks; then policies and validating webhooks.

The built-in plugins are in `admission`, before the first and between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chaos.embedded.api.asked import Again, Asked, Json
from chaos.embedded.api.webhooks import Caller, Webhooks
from chaos.embedded.resources import POLICY_BINDING, RESOURCES, Resource
from chaos.embedded.store import Store

if TYPE_CHECKING:
    from chaos.embedded.api.policies import Policies


class AdmissionGate:
    """The webhooks and policies of a cluster."""

    def __init__(self, store: Store, caller: Caller) -> None:
        self._store = store
        self._webhooks = Webhooks(store, caller, self._conditions_hold)

    def concerns(self, asked: Asked) -> bool:
        return self._webhooks.concerns(asked) or (
            bool(self._store.list(POLICY_BINDING)) and self._policies().concerns(asked)
        )

    async def mutate(self, asked: Asked, again: Again) -> Json | None:
        return await self._webhooks.mutate(asked, again)

    async def validate(self, asked: Asked) -> None:
        if self._store.list(POLICY_BINDING):
            self._policies().validate(asked)
        await self._webhooks.validate(asked)

    def _policies(self) -> Policies:
        from chaos.embedded.api.policies import Policies  # with it comes the CEL runtime

        return Policies(self._store, self._served)

    def _served(self, api_version: str, kind: str) -> Resource | None:
        built_in = next((one for one in RESOURCES if (one.api_version, one.kind) == (api_version, kind)), None)
        return built_in or self._store.kinds.by_kind(api_version, kind)

    def _conditions_hold(self, hook: Mapping[str, Any], asked: Asked, resource: Resource) -> bool:
        if not hook.get("matchConditions"):
            return True
        from chaos.embedded.api.conditions import webhook_conditions_hold

        return webhook_conditions_hold(self._store, hook, asked, resource)
