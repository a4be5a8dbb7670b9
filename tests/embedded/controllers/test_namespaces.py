"""Namespaces: what each is given, and how it empties itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from chaos.embedded.deletion import delete
from chaos.embedded.resources import CONFIG_MAP, DEPLOYMENT, EVENT, NAMESPACE, POD, SERVICE_ACCOUNT
from tests.embedded.controllers.harness import NS, World, workload, world


def run(test: Callable[[World], Awaitable[None]], *nodes: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(*nodes) as w:
            await test(w)

    asyncio.run(main())


def test_a_namespace_gets_its_service_account_and_ca_and_empties_itself_when_deleted() -> None:
    async def check(w: World) -> None:
        await w.until(
            lambda: w.store.find(SERVICE_ACCOUNT, NS, "default") and w.store.find(CONFIG_MAP, NS, "kube-root-ca.crt")
        )
        delete(w.store, SERVICE_ACCOUNT, NS, "default")
        await w.until(lambda: w.store.find(SERVICE_ACCOUNT, NS, "default"))
        w.create(DEPLOYMENT, workload("Deployment", "d", replicas=2))
        await w.until(lambda: len(w.pods()) == 2)
        delete(w.store, NAMESPACE, "", NS)
        await w.until(lambda: w.store.find(NAMESPACE, "", NS) is None)
        assert w.store.list(POD, NS) == []
        assert w.store.list(EVENT, NS) == []

    run(check)
