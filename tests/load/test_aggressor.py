"""An aggressor finds where its path gives out, and always ends."""

from __future__ import annotations

import json
import urllib.error
from typing import Any

import pytest

from chaos.load.aggressor import detect_saturation
from tests.load.programs import Programs, eventually, fetch

MS = 1_000_000


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"offered": 100, "lost": 0, "shed": 0, "median": 2 * MS, "first_median": 1 * MS}, ""),
        ({"offered": 100, "lost": 0, "shed": 0, "median": 15 * MS, "first_median": 1 * MS}, ""),
        ({"offered": 100, "lost": 0, "shed": 0, "median": 90 * MS, "first_median": 1 * MS}, "slow"),
        ({"offered": 100, "lost": 40, "shed": 0, "median": 1 * MS, "first_median": 1 * MS}, "errors"),
        ({"offered": 100, "lost": 0, "shed": 10, "median": 1 * MS, "first_median": 1 * MS}, "shed"),
        ({"offered": 4, "lost": 4, "shed": 0, "median": 0, "first_median": 0}, ""),
    ],
)
def test_saturation_is_told_from_noise(seen: Any, expected: str) -> None:
    assert detect_saturation(**seen) == expected


def wish(port: int, **more: object) -> bytes:
    return json.dumps(
        {
            "profile": "requests",
            "server": "tenant-a/server",
            "target": f"127.0.0.1:{port}",
            "seconds": 1.0,
            "start_rate": 50,
            "step": 0.1,
            **more,
        }
    ).encode()


@pytest.mark.live
def test_an_aggressor_ramps_holds_and_ends_at_its_own_deadline(programs: Programs) -> None:
    server, loader = programs.server(), programs.loader()
    server.misbehaviour(delay_ms=100, seconds=30)
    loader.ask("/aggressor", wish(server.http, in_flight=20))
    held = eventually(lambda: next((one for one in loader.state()["aggressors"] if one["phase"] == "hold"), None))
    assert held["why"] == "shed"  # 20 under way at 100 ms each: 200 a second is all that it can carry
    assert held["saturated_at"] > 50
    eventually(lambda: loader.state()["aggressors"][0]["phase"] == "ended")
    eventually(lambda: loader.state()["under_way"] == 0)
    due = loader.state()["flows"][0]["due"]
    assert loader.state()["flows"][0]["due"] == due


@pytest.mark.live
def test_an_aggressor_stops_when_told_and_a_second_one_is_refused(programs: Programs) -> None:
    server, loader = programs.server(), programs.loader()
    loader.ask("/aggressor", wish(server.http, seconds=30, max_rate=100))
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        loader.ask("/aggressor", wish(server.http))
    assert b"runs already" in caught.value.read()
    caught.value.close()
    loader.ask("/aggressor", b'{"stop":true}')
    state = loader.state()
    assert state["aggressors"][0]["phase"] == "ended"
    assert state["under_way"] == 0
    loader.ask("/aggressor", wish(server.http))  # and may be started again


@pytest.mark.live
@pytest.mark.parametrize("profile", ["handshakes", "bodies", "slow-readers"])
def test_each_profile_presses_in_its_own_way(programs: Programs, profile: str) -> None:
    server, loader = programs.server(), programs.loader()
    loader.ask(
        "/aggressor",
        wish(
            server.http,
            profile=profile,
            max_rate=60,
            seconds=1.2,
            answer_bytes=400_000,
            body_bytes=100_000,
            timeout=0.8,
        ),
    )
    eventually(lambda: loader.state()["aggressors"][0]["phase"] == "ended")
    flow = loader.state()["flows"][0]
    stats = json.loads(fetch(server.control, "/stats"))
    assert flow["sent"] > 20
    if profile == "handshakes":
        assert flow["opened"] >= flow["sent"] - flow["shed"]
    elif profile == "bodies":
        assert stats["POST"] > 20
        assert flow["opened"] < flow["sent"]
    else:
        assert flow["ok"] == 0  # 400 kB at 64 kB/s cannot end within 0.8 s
        assert flow["unknown"] > 20
    assert flow["stored"] == flow["done"] // flow["keep_every"]
