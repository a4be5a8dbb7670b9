"""A loader's orders: every problem in one error, nothing guessed."""

from __future__ import annotations

import pytest

from chaos.errors import Misuse
from chaos.load.spec import Profile, Protocol, aggressor_flow, aggressor_from, flow_from, flows_from

GOOD = {"name": "http", "server": "tenant-a/server", "target": "server:80"}


def test_every_problem_of_a_flow_is_in_one_error() -> None:
    with pytest.raises(Misuse) as caught:
        flow_from({**GOOD, "target": "nowhere", "protocol": "http9", "rate": -1, "sentinel": 1, "colour": "red"})
    for name in ("target", "protocol", "rate", "sentinel", "colour"):
        assert f"{name} is " in str(caught.value)


@pytest.mark.parametrize("missing", ["name", "server", "target"])
def test_what_a_flow_must_hold_is_asked_for(missing: str) -> None:
    with pytest.raises(Misuse, match=f"{missing} is missing"):
        flow_from({name: value for name, value in GOOD.items() if name != missing})


def test_flows_of_one_name_are_refused() -> None:
    with pytest.raises(Misuse, match="must differ"):
        flows_from('[{"name":"a","server":"x/y","target":"h:1"},{"name":"a","server":"x/y","target":"h:2"}]')


@pytest.mark.parametrize("text", ["{", "3", '"x"', "[1]"])
def test_what_is_no_list_of_flows_is_refused(text: str) -> None:
    with pytest.raises(Misuse):
        flows_from(text)


def test_a_rate_of_zero_stops_a_flow_and_a_body_makes_it_a_post() -> None:
    assert flow_from({**GOOD, "rate": 0}).rate == 0
    assert flow_from({**GOOD, "body_bytes": 10}).method == "POST"
    assert flow_from({**GOOD, "protocol": "grpc"}).protocol is Protocol.GRPC


def test_each_aggressor_profile_makes_another_flow() -> None:
    base = {"server": "tenant-a/server", "target": "server:80", "seconds": 5}
    flows = {profile: aggressor_flow(aggressor_from({**base, "profile": profile})) for profile in Profile}
    assert len({flow.label for flow in flows.values()}) == len(Profile)
    assert flows[Profile.HANDSHAKES].new_connections
    assert flows[Profile.BODIES].body_bytes > 0
    assert flows[Profile.SLOW_READERS].slow_reader > 0
    with pytest.raises(Misuse, match="profile"):
        aggressor_from({**base, "profile": "sweet"})


BYTES = {"name": "b", "server": "shop/db", "target": "db:1", "protocol": "plain", "new_connections": True}


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({}, ""),
        ({"answer": "7", "new_connections": False}, ""),
        ({"answer": "connected", "protocol": "tls"}, ""),
        ({"send": "UElORw=="}, ""),
        ({"send": "PING!"}, "send is "),
        ({"answer": "0"}, "answer is "),
        ({"answer": "-1"}, "answer is "),
        ({"answer": "soon"}, "answer is "),
        ({"new_connections": False}, "a kept connection wants a number of bytes"),
        ({"answer": "connected", "new_connections": False}, "a kept connection wants a number of bytes"),
        ({"protocol": "tls", "ca": "no certificate"}, "ca holds no certificates"),
    ],
)
def test_a_flow_of_bytes_says_what_an_answer_is(said: dict[str, object], wrong: str) -> None:
    if not wrong:
        assert flow_from({**BYTES, **said}).name == "b"
        return
    with pytest.raises(Misuse, match=wrong):
        flow_from({**BYTES, **said})


@pytest.mark.parametrize("protocol", ["plain", "tls"])
def test_an_overload_is_of_requests(protocol: str) -> None:
    with pytest.raises(Misuse, match="an overload is of requests"):
        aggressor_from({"profile": "requests", "server": "a/b", "target": "b:1", "seconds": 5, "protocol": protocol})
