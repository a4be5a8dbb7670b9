"""A WebSocket passes every mode. Between two sidecars, which speak HTTP/2, it is an extended CONNECT (RFC 8441)."""

from __future__ import annotations

import sys

import pytest

from tests.mesh.envoy.bench import bench, until
from tests.mesh.envoy.placements import MESHED

pytestmark = pytest.mark.privileged

QUICK = ("sidecar", "ambient-namespace")  # HTTP/2 between proxies, and tunnels


@pytest.mark.parametrize("mode", [pytest.param(m, marks=[] if m in QUICK else [pytest.mark.slow]) for m in MESHED])
def test_a_websocket_is_opened_and_carries_both_directions(mode: str) -> None:
    with bench(mode) as made:
        made.pod("tenant-a", "client-a", 10)
        server = made.pod("tenant-a", "server-a-0", 20, module="tests.mesh.envoy.websocket_app")
        made.everything()
        until(lambda: 8080 in made.listening(server))
        heard = made.spaces["client-a"].run(sys.executable, "-m", "tests.mesh.envoy.websocket_app", "call", "10.96.0.1")
        assert heard.splitlines() == ["101 True", "hello from the server", "ONE", "TWO"]
        assert made.curl("client-a", "http://10.96.0.1/")[0] == 426  # a plain request arrives as one
