"""The loader's counts against the servers'."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.engine.deployment import counting_containers, detect_contradictions


@pytest.mark.parametrize(
    ("answered", "served", "contradiction"), [(900, 900, False), (900, 960, False), (901, 900, True), (10, 0, True)]
)
def test_a_loader_that_saw_more_answers_than_were_given_contradicts_the_servers(
    answered: int, served: int, contradiction: bool
) -> None:
    counts = {"tenant-a": {"answered": answered, "served": served}, "tenant-b": {"answered": 1, "served": 1}}
    assert bool(detect_contradictions(counts)) is contradiction


def test_a_proxy_that_was_killed_beside_a_server_takes_no_counts_along_and_the_servers_own_restart_does() -> None:
    def pod(server: str, proxy: str) -> dict[str, Any]:
        states = [{"name": "proxy", "containerID": proxy}, {"name": "server", "containerID": server}]
        return {"metadata": {"uid": "u"}, "status": {"containerStatuses": states}}

    before = counting_containers([pod("s1", "p1")])
    assert counting_containers([pod("s1", "p2")]) == before
    assert counting_containers([pod("s2", "p1")]) != before
    assert counting_containers([{"metadata": {"uid": "u"}}]) == {"u": ""}
