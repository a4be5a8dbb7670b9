"""Proxies at their CPU limit are told from those near it."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.engine.designs import Held, bounded, why_nobody
from chaos.engine.saturation import Saturation, classify_saturation
from chaos.faults.overload import FREE_RATE, LIMITED_RATE, Overload
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
    path = [proxy("full"), proxy("busy"), proxy("half")]
    assert classify_saturation(path, events, held, gave_out=True) == Saturation((proxy("full"),), (proxy("busy"),))
    assert classify_saturation(path, events, held, gave_out=False) == Saturation((), (proxy("full"), proxy("busy")))
    unseen = Saturation((), (), (proxy("unseen"),))
    assert classify_saturation([proxy("half")], events, held, gave_out=True) == Saturation(())
    assert classify_saturation([proxy("unseen")], events, held, gave_out=True) == unseen
    assert classify_saturation([], events, held, gave_out=True) == Saturation(())
    # Without a limit, as ztunnel is installed: whatever it used, nobody who shares it is predicted hurt.
    free = proxy("full", 0)
    assert classify_saturation([free], events, held, gave_out=True) == Saturation((), (), (free,))


def ramp(why: str, rate: float = 4000.0, *, loader_bound: bool = False) -> dict[str, Any]:
    return {"why": why, "saturated_at": rate, "rate": rate, "loader_bound": loader_bound}


# What the ramps say -> whether the path gave out each time, and the rates at which it did.
RAMPS: dict[str, tuple[list[dict[str, Any]], bool, list[float]]] = {
    "it gave out": ([ramp("shed", 900.0), ramp("slow", 1000.0)], True, [900.0, 1000.0]),
    "it carried all": ([ramp("max-rate")], False, []),
    "it gave out once": ([ramp("errors", 900.0), ramp("max-rate")], False, [900.0]),
    "the loader was late": ([ramp("shed", 900.0, loader_bound=True)], True, []),
    "no overload": ([{"pid": 7}], True, []),
}


@pytest.mark.parametrize("case", RAMPS)
def test_a_ramp_that_came_to_its_own_end_says_nothing_of_what_its_path_bears(case: str) -> None:
    said, gave_out, rates = RAMPS[case]
    held = Held(Window(WindowKind.FAULT, 0, 1), tuple(said))
    assert held.gave_out is gave_out
    assert held.rates() == rates


def test_nobody_is_at_risk_on_a_path_that_carried_all() -> None:
    carried = Held(Window(WindowKind.FAULT, 0, 1), (ramp("max-rate", 16_000.0),))
    said = why_nobody(1, "tenant-a/client", Saturation((), (proxy("full"),)), [carried])
    assert said == "the path of tenant-a/client carried all of the 16000 requests/s that the overload may reach"


def test_a_ramp_goes_higher_where_a_limit_bounds_it() -> None:
    overload = Overload(server="tenant-a/server")
    assert bounded(overload, [proxy("limited")]).max_rate == LIMITED_RATE
    assert bounded(overload, []).max_rate == bounded(overload, [proxy("free", 0)]).max_rate == FREE_RATE
    assert bounded(Overload(server="tenant-a/server", max_rate=10.0), [proxy("limited")]).max_rate == 10.0
