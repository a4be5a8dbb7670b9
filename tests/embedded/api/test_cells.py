"""What `kubectl get` shows of objects whose cells take more than a look at one field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.embedded.api.cells import ROWS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def addresses(*ips: str) -> list[dict[str, str]]:
    return [{"ip": ip} for ip in ips]


@pytest.mark.parametrize(
    ("subsets", "shown"),
    [
        ([], "<none>"),
        ([{"notReadyAddresses": addresses("10.0.0.1"), "ports": [{"port": 80}]}], ""),
        ([{"addresses": addresses("10.0.0.1"), "ports": [{"port": 80}]}], "10.0.0.1:80"),
        ([{"addresses": addresses("10.0.0.1")}], "10.0.0.1"),
        ([{"addresses": addresses("fd00::1"), "ports": [{"port": 80}]}], "[fd00::1]:80"),
        ([{"addresses": addresses("10.0.0.1"), "ports": [{"port": p} for p in (1, 2)]}], "10.0.0.1:1,10.0.0.1:2"),
        (
            [{"addresses": addresses(*(f"10.0.0.{n}" for n in range(1, 6))), "ports": [{"port": 8}]}],
            "10.0.0.1:8,10.0.0.2:8,10.0.0.3:8 + 2 more...",
        ),
    ],
)
def test_endpoints_show_ready_addresses_and_nothing_where_none_is_ready(
    subsets: list[dict[str, Any]], shown: str
) -> None:
    metadata = {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"}
    assert ROWS["Endpoints"]({"metadata": metadata, "subsets": subsets}, NOW)[0] == shown
