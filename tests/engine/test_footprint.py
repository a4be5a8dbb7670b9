"""Totals and intervals of the proxies' use."""

from __future__ import annotations

import pytest

from chaos.engine.footprint import compare_budget, interval, total
from chaos.model.modes import Layer, Scope
from chaos.model.placement import Proxy


def test_the_interval_of_a_mean_is_students() -> None:
    low, high = interval([1.0, 2.0, 3.0, 4.0])
    assert (round(low, 3), round(high, 3)) == (0.446, 4.554)  # 2.5 -+ 3.182 x 1.291 / 2 (scipy.stats.t.interval)
    assert interval([5.0]) == (0.0, 10.0)


def test_a_total_counts_the_containers_that_are_named_and_there() -> None:
    row = {("n", "p", "proxy"): {"cores": 0.5}, ("n", "p", "app"): {"cores": 2.0}}
    assert total(row, [("n", "p", "proxy"), ("n", "gone", "proxy")], "cores") == 0.5


def ztunnel(millicores: int, node: str = "n1") -> Proxy:
    layers = frozenset({Layer.L4})
    return Proxy("m", f"z-{node}", "istio-proxy", node, node, layers, Scope.NODE, node, "z", millicores)


@pytest.mark.parametrize(
    ("proxies", "words", "cores"),
    [
        ([ztunnel(450), ztunnel(450, "n2")], "may use 0.90 cores, the reference modes 0.90: the same", 0.9),
        ([ztunnel(2000), ztunnel(2000, "n2")], "not the same, so CPU does not compare under load", 4.0),
        ([ztunnel(450), ztunnel(0, "n2")], "m/z-n2[istio-proxy] has no CPU limit, and none could be taken back", 0.45),
    ],
)
def test_an_installed_meshs_limits_are_told_beside_the_budget(proxies: list[Proxy], words: str, cores: float) -> None:
    check = compare_budget(proxies, 0.9)
    assert words in check.sentence
    assert check.value == cores
