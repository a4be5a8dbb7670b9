"""Proxies at their CPU limit are told from those near it."""

from __future__ import annotations

from chaos.engine.saturation import Saturation, classify_saturation
from chaos.history.model import Event, EventKind
from chaos.model.flow import Window, WindowKind
from chaos.model.modes import Layer, Scope
from chaos.model.placement import Proxy


def proxy(name: str, millicores: int = 100) -> Proxy:
    return Proxy(
        "sharedfate-system", name, "proxy", name, "node-1", frozenset(Layer), Scope.NODE, "node-1", "a", millicores
    )


def test_a_proxy_that_used_up_its_limit_is_saturated_and_one_that_nearly_did_is_near_saturation() -> None:
    def reading(pod: str, at: float, cores: float) -> Event:
        return Event(
            int(at * 1e9),
            EventKind.USAGE,
            {"namespace": "sharedfate-system", "pod": pod, "containers": {"proxy": {"cores": cores, "bytes": 1}}},
        )

    held = [Window(WindowKind.FAULT, int(10e9), int(13e9))]
    cores = {"full": 0.099, "busy": 0.08, "half": 0.05}
    events = [
        reading("full", 9.0, 0.02),
        *(reading(pod, at, used) for pod, used in cores.items() for at in (11.5, 12.5)),
        reading("full", 14.0, 0.01),
    ]
    assert classify_saturation([proxy("full"), proxy("busy"), proxy("half")], events, held) == Saturation(
        (proxy("full"),), (proxy("busy"),)
    )
    assert classify_saturation([proxy("half")], events, held) == Saturation(())
    assert classify_saturation([proxy("unseen")], events, held) == Saturation((), (), (proxy("unseen"),))
    assert classify_saturation([], events, held) == Saturation(())
