"""What one request makes the server do is in proportion to its length: nobody stops it for the others by a few bytes.

Each row took a minute to hours, or ended in a trace, when the work grew with the square of the length, by a product of
lengths or with a length that the body only claims.
"""

from __future__ import annotations

import json
import logging
import struct
import time
import zlib
from contextlib import nullcontext
from typing import Any, Final

import pytest

from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.spdy import Codec
from chaos.embedded.api.streams import parse_ports
from chaos.errors import ApiError
from tests.embedded.api.conftest import World
from tests.embedded.api.test_escalation import clerk, made, refused

SECONDS: Final = 10.0  # of CPU time, in this process, which has the server; each takes one or two
REVIEW: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"  # which every user may make
PODS: Final = "/api/v1/namespaces/default/pods?dryRun=All"
JOBS: Final = "/apis/batch/v1/namespaces/default/jobs?dryRun=All"
MAPS: Final = "/api/v1/namespaces/default/configmaps?dryRun=All"
POD: Final = {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}


def named(**fields: Any) -> bytes:
    return json.dumps({"metadata": {"name": "n"}, **fields}).encode()


def owned_by(number: int) -> dict[str, Any]:
    """The metadata of an object with so many controllers."""
    one = {"apiVersion": "v1", "kind": "Pod", "controller": True}
    return {"name": "n", "ownerReferences": [{**one, "name": f"p{i}", "uid": f"u{i}"} for i in range(number)]}


def failure_policy(codes: int) -> dict[str, Any]:
    rule = {"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": list(range(codes))}}
    return {"template": {"spec": POD}, "podFailurePolicy": {"rules": [rule]}}


JSON, YAML = "application/json", "application/yaml"
# Path, body, its type and coding -> the answer.
ROWS: Final[dict[str, tuple[str, bytes, str, str, int]]] = {
    "every field twice": (
        REVIEW,
        b"{" + b",".join(b'"k%d":1,"k%d":1' % (i, i) for i in range(100_000)) + b"}",
        JSON,
        "",
        422,
    ),
    "one field twice": (REVIEW, b"{" + b",".join(b'"k%d":1' % i for i in range(100_000)) + b',"k0":1}', JSON, "", 422),
    "lists that do not end": (REVIEW, b"[" * 100_000, JSON, "", 400),
    "objects that do not end": (REVIEW, b'{"a":' * 100_000, JSON, "", 400),
    "YAML: lists in lists": (REVIEW, b"- " * 100_000, YAML, "", 400),
    "YAML: lists that do not end": (REVIEW, b"a: " + b"[" * 100_000, YAML, "", 400),
    "YAML: many fields": (REVIEW, b"\n".join(b"k%d: 1" % i for i in range(40_000)), YAML, "", 422),
    "YAML: many small lists": (REVIEW, b"a: [" + b"[]," * 50_000 + b"]", YAML, "", 422),
    "compressed: deflate": (REVIEW, zlib.compress(b" " * 300_000_000), JSON, "deflate", 400),
    "many controllers": (MAPS, json.dumps({"metadata": owned_by(8_000)}).encode(), JSON, "", 422),
    "many spreads, none complete": (
        PODS,
        named(spec={**POD, "topologySpreadConstraints": [{}] * 200_000}),
        JSON,
        "",
        422,
    ),
    "many exit codes": (JOBS, named(spec=failure_policy(200_000)), JSON, "", 422),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_request_takes_no_more_than_its_length_asks_for(
    world: World, row: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, body, kind, coding, code = ROWS[row]
    headers = {"Content-Encoding": coding} if coding else {}
    began = time.process_time()
    with caplog.at_level(logging.ERROR), pytest.raises(ApiError) if code >= 400 else nullcontext() as caught:
        world.cluster.open("POST", path, body=body, content_type=kind, headers=headers, read_timeout=60).drain_conn()
    assert time.process_time() - began < SECONDS
    assert caught is None or (caught.value.code, len(str(caught.value)) < 2 * len(body) + (4 << 20)) == (code, True)
    assert [one for one in caplog.records if one.exc_info] == []


@pytest.mark.parametrize("part", ["verbs", "apiGroups", "resources", "resourceNames"])
def test_rights_that_a_rule_multiplies_are_counted_before_they_are_held_against_those_of_the_writer(
    world: World, namespace: str, part: str
) -> None:
    """Of a writer who holds little; whoever holds all is not asked for each."""
    client = clerk(world)
    many = [f"x{i}" for i in range(200)]
    rule = {"verbs": many, "apiGroups": many, "resources": many, "resourceNames": many}
    refused(client.create, made("Role", "r", namespace, rules=[rule]), code=400)
    few = {**{key: ["x"] for key in rule}, part: many}
    refused(client.create, made("Role", "r", namespace, rules=[few]), code=403)
    world.cluster.create(made("Role", "r", namespace, rules=[rule]))


def test_a_tunnels_frames_are_read_once() -> None:
    codec, frame = Codec(), struct.pack(">II", 1, 0)
    began = time.process_time()
    frames = list(codec.feed(frame * 300_000 + frame[:3]))
    assert (len(frames), time.process_time() - began < SECONDS) == (300_000, True)
    assert [one.stream for one in codec.feed(frame[3:])] == [1]


def test_a_port_forward_has_no_more_ports_than_channels() -> None:
    assert len(parse_ports([",".join(["80"] * 127)])) == 127
    with pytest.raises(StatusError, match="at most 127"):
        parse_ports(["80"] * 128)
