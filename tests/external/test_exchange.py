"""What a call of bytes may say, in a target file and by `load.add`, and what a loader is told."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.engine.external import LoadedCall
from chaos.errors import Misuse
from chaos.external.file import Call, parse_call, read_target
from chaos.load.spec import FlowSpec, flow_from
from chaos.mesh.ca import Authority

PEM = Authority.new().root_pem.decode()
ENDS = {"client": "shop/caller", "server": "shop/web", "reach": "web:80"}


def call(**said: Any) -> Call:
    return parse_call({**ENDS, **{name.replace("_", "-"): value for name, value in said.items()}}, source="t")


def ordered(one: Call) -> FlowSpec:
    """As the loader's own parser takes it: what a call may say, a loader can do."""
    flow, _ = LoadedCall("shop", one).flows(None, one.rate)  # type: ignore[arg-type]  # a call's flows ask no cluster
    return flow_from(flow)


@pytest.mark.parametrize(
    ("said", "send", "answer", "new"),
    [
        ({"protocol": "tcp"}, b"", "connected", True),
        ({"protocol": "tls"}, b"", "connected", True),
        ({"protocol": "tcp", "send": "PING\r\n"}, b"PING\r\n", "any", True),
        ({"protocol": "tcp", "send": b"\x00\xff"}, b"\x00\xff", "any", True),
        ({"protocol": "tcp", "send": "naïve"}, "naïve".encode(), "any", True),
        ({"protocol": "tcp", "answer": "any"}, b"", "any", True),
        ({"protocol": "tcp", "send": "PING", "answer": 7}, b"PING", "7", True),
        ({"protocol": "tcp", "send": "PING", "answer": 7, "keep": True}, b"PING", "7", False),
        ({"protocol": "tcp", "send": "PING", "answer": 7, "keep": True, "rate": 2000}, b"PING", "7", False),
        ({"protocol": "tls", "insecure": True, "sni": "db.shop"}, b"", "connected", True),
        ({"protocol": "tls", "ca": PEM}, b"", "connected", True),
    ],
)
def test_a_loader_is_told_what_a_call_says(said: dict[str, Any], send: bytes, answer: str, new: bool) -> None:
    one = call(**said)
    flow = ordered(one)
    assert (b64decode(flow.send), flow.answer, flow.new_connections) == (send, answer, new)
    assert flow.protocol == {"tcp": "plain", "tls": "tls"}[said["protocol"]]
    assert (flow.ca, flow.sni, flow.insecure) == tuple(
        said.get(name, default) for name, default in (("ca", ""), ("sni", ""), ("insecure", False))
    )
    assert one.loaded
    assert one.spread == new
    assert one.accepted_only == (said["protocol"] == "tcp" and answer == "connected")


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"protocol": "tcp", "send": 5}, "send is 5, and should be a text: of other bytes say send-base64"),
        ({"protocol": "tcp", "send": ["a"]}, "send is ['a'], and should be a text"),
        ({"protocol": "tcp", "send_base64": "x!"}, "send-base64 is 'x!', and should be base64"),
        ({"protocol": "tcp", "send_base64": "AQI=", "send": "x"}, "send-base64 is given beside send"),
        ({"protocol": "tcp", "send_base64": "AQI=", "answer": "connected"}, "answer is connected, and send is given"),
        ({"protocol": "tcp", "answer": 0}, "answer is 0, and should be any, connected or a number of bytes"),
        ({"protocol": "tcp", "answer": -3}, "answer is -3"),
        ({"protocol": "tcp", "answer": True}, "answer is True"),
        ({"protocol": "tcp", "answer": 1.5}, "answer is 1.5"),
        ({"protocol": "tcp", "answer": "soon"}, "answer is 'soon'"),
        ({"protocol": "tcp", "send": "x", "answer": "connected"}, "answer is connected, and send is given"),
        ({"protocol": "tcp", "keep": True}, "keep is true, and answer is connected"),
        ({"protocol": "tcp", "send": "x", "keep": True}, "keep is true, and answer is any"),
        ({"protocol": "tcp", "keep": "yes"}, "keep is 'yes', and should be true or false"),
        ({"protocol": "tcp", "rate": 500}, "rate is 500: a new connection for each request"),
        ({"protocol": "tcp", "path": "/"}, "path is not said of a call over tcp"),
        ({"protocol": "tls", "status": 200}, "status is not said of a call over tls"),
        ({"protocol": "tls", "body_bytes": 3}, "body-bytes is not said of a call over tls"),
        ({"protocol": "tcp", "sni": "db"}, "sni is not said of a call over tcp"),
        ({"protocol": "http", "send": "x"}, "send is not said of a call over http"),
        ({"protocol": "http2", "ca": PEM}, "ca is not said of a call over http2"),
        ({"protocol": "grpc", "keep": True}, "keep is not said of a call over grpc"),
        ({"protocol": "tls", "ca": "none.pem"}, "ca names none.pem: no such file"),
        ({"protocol": "tls", "ca": PEM[:200]}, "ca is given, and holds no certificate in PEM that can be read"),
        ({"protocol": "tls", "ca": PEM, "insecure": True}, "insecure is true beside ca"),
        ({"protocol": "udp"}, "protocol is 'udp': known are http, http2, grpc, tcp, tls"),
    ],
)
def test_what_a_call_of_bytes_cannot_say_is_refused_by_its_word(said: dict[str, Any], wrong: str) -> None:
    with pytest.raises(Misuse) as caught:
        call(**said)
    assert f"t: {wrong}" in str(caught.value)


def test_a_target_file_holds_bytes_and_names_anchors_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    file = tmp_path / "target.yaml"
    said = {**ENDS, "protocol": "tls", "ca": "ca.pem", "send-base64": "AQI=", "answer": 2}
    file.write_text(yaml.safe_dump({"version": 1, "tenants": [{"name": "s", "namespaces": ["shop"]}], "calls": [said]}))
    (one,) = read_target(file).calls
    assert (one.exchange.ca, one.exchange.send, one.exchange.answer) == (PEM, b"\x01\x02", "2")
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(Misuse, match=r"calls\[0\]\.ca is ca\.pem, and holds no certificate"):
        read_target(file)
