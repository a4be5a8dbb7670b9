"""Where the reference tenants are placed."""

from __future__ import annotations

import pytest

from chaos.engine.topology import plan_tenants
from chaos.errors import Misuse


def test_the_reference_tenants_need_two_nodes() -> None:
    with pytest.raises(Misuse, match="two nodes"):
        plan_tenants(["only"])


def test_the_third_tenant_shares_no_node_with_the_first() -> None:
    a, b, c = plan_tenants(["n1", "n2"])
    assert set(a.client_nodes + a.server_nodes).isdisjoint(c.client_nodes + c.server_nodes)
    assert set(b.server_nodes) == {"n1", "n2"}
