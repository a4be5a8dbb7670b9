"""kubectl's typed commands speak protobuf: what they mean, and that nonsense is refused with one kind of error."""

from __future__ import annotations

import random

import pytest

from chaos.embedded.api.protobuf import decode


def field(number: int, value: bytes | int | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def body(version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, version) + field(2, kind)) + field(2, raw)


def test_a_namespace_of_kubectl_create_is_read_without_its_zero_values() -> None:
    meta = field(1, "shop") + field(2, "") + field(7, 0) + field(8, b"") + field(11, field(1, "app") + field(2, "x"))
    raw = field(1, meta) + field(2, b"") + field(3, field(1, ""))
    assert decode(body("v1", "Namespace", raw)) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"app": "x"}},
        "spec": {},
        "status": {},
    }


def test_a_pointers_zero_is_meant() -> None:
    assert decode(body("v1", "DeleteOptions", field(1, 0)))["gracePeriodSeconds"] == 0


def test_bytes_become_base64_and_times_rfc_3339() -> None:
    secret = field(1, field(8, field(1, 86400))) + field(2, field(1, "key") + field(2, b"\x00\xff"))
    found = decode(body("v1", "Secret", secret))
    assert found["data"] == {"key": "AP8="}
    assert found["metadata"]["creationTimestamp"] == "1970-01-02T00:00:00Z"


def test_inlined_sources_of_volumes_quantities_and_ports_are_spelt_as_in_json() -> None:
    volume = field(1, "tmp") + field(2, field(2, field(2, field(1, "64Mi"))))
    container = field(1, "app") + field(8, field(1, field(1, "cpu") + field(2, field(1, "100m"))))
    template = field(2, field(1, volume) + field(2, container))
    found = decode(body("apps/v1", "Deployment", field(2, field(3, template))))
    spec = found["spec"]["template"]["spec"]
    assert spec["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "100m"}
    service = decode(body("v1", "Service", field(2, field(1, field(3, 80) + field(4, field(1, 1) + field(3, "web"))))))
    assert service["spec"]["ports"] == [{"port": 80, "targetPort": "web"}]


def test_groups_are_found_by_their_first_word() -> None:
    review = field(2, field(1, field(2, "get") + field(5, "pods")))
    found = decode(body("authorization.k8s.io/v1", "SelfSubjectAccessReview", review))
    assert found["spec"]["resourceAttributes"] == {"verb": "get", "resource": "pods"}


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"k8s\x00", b"k8s\x00\xff", body("v1", "Nonsense", b""), body("v1", "Pod", b"\x0a\x7f")]
)
def test_what_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode(text)


def test_no_damage_to_a_body_gives_another_error_than_value_error() -> None:
    chance = random.Random(7)
    meta = field(1, "shop") + field(8, field(1, 10**9)) + field(11, field(1, "app") + field(2, "x"))
    good = body("v1", "Pod", field(1, meta) + field(2, field(2, field(1, "app") + field(2, "image"))))
    for _ in range(3000):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(4, len(damaged))] = chance.randrange(256)
        try:
            decode(bytes(damaged))
        except ValueError:
            continue
