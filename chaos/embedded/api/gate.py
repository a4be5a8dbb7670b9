"""Who is asked before a write, in Kubernetes' order: mutating webhooks; then policies and validating webhooks.

The built-in plugins stand in `admission`, before the first and between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.embedded.api.asked import Again, Asked, Json
from chaos.embedded.api.webhooks import Caller, Webhooks
from chaos.embedded.store import Store


class AdmissionGate:
    """The gate of a cluster."""

    def __init__(self, store: Store, caller: Caller) -> None:
        self._webhooks = Webhooks(store, caller, _hold)

    def concerns(self, asked: Asked) -> bool:
        return self._webhooks.concerns(asked)

    async def mutate(self, asked: Asked, again: Again) -> Json | None:
        return await self._webhooks.mutate(asked, again)

    async def validate(self, asked: Asked) -> None:
        await self._webhooks.validate(asked)


def _hold(_webhook: Mapping[str, Any], _asked: Asked) -> bool:
    return True
