"""Whether a rotation brought new certificates to everybody."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.engine.mesh_changes import renewed


def page(*lines: tuple[str, str, str]) -> dict[str, Any]:
    """A page of the control plane that handed out (proxy, key, issuer)."""
    handed = [
        {"proxy_uid": uid, "identity": "a", "refused": False, "public_key_sha256": key, "issuer_sha256": issuer}
        for uid, key, issuer in lines
    ]
    return {"identities": [*handed, {"proxy_uid": "p", "identity": "b", "refused": True}]}


HELD = {("p", "a"), ("q", "a")}
BEFORE = page(("p", "1", "old"), ("q", "2", "old"), ("gone", "9", "old"))


@pytest.mark.parametrize(
    ("after", "verdict", "said"),
    [
        (page(("p", "1", "old"), ("gone", "9", "old"), ("p", "3", "new"), ("q", "4", "new")), "pass", "of 2"),
        (page(("p", "1", "old"), ("q", "2", "old")), "fail", "2 kept, 2 of another root"),
        (page(("p", "3", "old"), ("q", "4", "new")), "fail", "0 kept, 1 of another root"),
        (page(("p", "3", "new")), "fail", "1 were not issued"),
        (page(), "fail", "2 were not issued"),
    ],
)
def test_a_rotation_that_left_somebody_out_is_seen(after: dict[str, Any], verdict: str, said: str) -> None:
    found = renewed(HELD, BEFORE, after, "new")
    assert str(found.verdict) == verdict
    assert said in found.sentence


def test_a_mesh_that_holds_nothing_has_rotated_nothing() -> None:
    assert str(renewed(set(), BEFORE, BEFORE, "new").verdict) == "fail"
