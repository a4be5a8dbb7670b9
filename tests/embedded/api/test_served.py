"""What is served and what is not: every kind that Kubernetes has is known, and answered for in one sentence."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.embedded.api import discovery, tables, warnings
from chaos.embedded.api import schema as schemas
from chaos.embedded.kinds import Kinds
from chaos.embedded.kubelet.node_machine import installation
from chaos.embedded.resources import CUSTOM_RESOURCE_DEFINITION, POD, SERVICE, Resource
from chaos.names import IMAGE
from tests.embedded.api.conftest import World

UNSERVED = sorted(
    (one for one in discovery.listed().values() if "create" in one.verbs and one.plural != "bindings"),
    key=lambda one: (one.group, one.version, one.plural),
)


def test_kinds_that_are_not_served_have_schemas_and_answer_in_one_sentence(world: World) -> None:
    documents = [
        {"apiVersion": one.api_version, "kind": one.kind, "metadata": {"name": f"n{number}"}}
        for number, one in enumerate(UNSERVED)
    ]
    text = "---\n".join(json.dumps(one) + "\n" for one in documents)
    for arguments in (("apply",), ("create",), ("apply", "--server-side")):
        done = world.kubectl(*arguments, "-f", "-", stdin=text)
        told = [line for line in done.stderr.splitlines() if line]
        assert done.returncode == 1
        for one in UNSERVED:
            sentence = (
                f"the embedded cluster does not serve {one.api_version} {one.plural}: they can be listed, not created"
            )
            assert sum(sentence in line for line in told) == 1, (one, told)
        assert len(told) == len(UNSERVED), told


@pytest.mark.parametrize("one", UNSERVED, ids=lambda one: f"{one.plural}.{one.version}.{one.group}")
def test_a_kind_that_is_not_served_is_in_the_openapi_document_of_its_group(one: Resource) -> None:
    document = json.loads(discovery.openapi(Kinds(), one.group, one.version) or b"{}")
    name = schemas.definition_name(one.group, one.version, one.kind)
    assert name in document["components"]["schemas"]
    patches = [
        path["patch"]["x-kubernetes-group-version-kind"]["kind"]
        for path in document["paths"].values()
        if "patch" in path and any(one["name"] == "fieldValidation" for one in path["patch"]["parameters"])
    ]
    assert one.kind in patches


NOW = datetime(2026, 1, 1, tzinfo=UTC)
BALANCED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, "<pending>"),
    ({"externalIPs": ["1.2.3.4"]}, {}, "1.2.3.4"),
    ({}, {"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}, {"hostname": "a.b"}]}}, "9.9.9.9,a.b"),
]


@pytest.mark.parametrize(("spec", "status", "shown"), BALANCED)
def test_a_balancer_shows_its_addresses_or_that_they_are_pending(
    spec: dict[str, Any], status: dict[str, Any], shown: str
) -> None:
    service = {
        "metadata": {"name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9", **spec},
        "status": status,
    }
    assert tables.row(SERVICE, service, NOW, "None")["cells"][3] == shown


def test_a_definition_shows_when_it_was_made() -> None:
    made = {"metadata": {"name": "a.b.c", "creationTimestamp": "2026-01-01T00:00:00Z"}}
    assert [one["name"] for one in tables.columns(CUSTOM_RESOURCE_DEFINITION)] == ["Name", "Created At"]
    assert tables.row(CUSTOM_RESOURCE_DEFINITION, made, NOW, "None")["cells"] == ["a.b.c", "2026-01-01T00:00:00Z"]


@pytest.mark.parametrize(
    ("image", "path", "warned"),
    [
        (IMAGE, "/".join(installation()[0].split("/")[:2]), True),
        (f"docker.io/{IMAGE}", installation()[0], True),
        (IMAGE, "/data", False),
        (IMAGE, f"{installation()[0]}/below", False),
        ("example:1", installation()[0], False),
    ],
)
def test_a_volume_over_the_installation_is_warned_of(image: str, path: str, warned: bool) -> None:
    container = {"name": "c", "image": image, "volumeMounts": [{"name": "v", "mountPath": path}]}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}}
    told = [one for one in warnings.of(POD, pod, None) if "where the programs of" in one]
    assert bool(told) is warned
    assert all(one.startswith(f"spec.containers[0].volumeMounts[0].mountPath: {path} hides /") for one in told)


def test_a_list_is_validated_against_openapi_2(world: World, namespace: str) -> None:
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in ("a", "b")]
    done = world.kubectl(
        "apply", "-n", namespace, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    )
    assert (done.returncode, done.stdout) == (0, "configmap/a created\nconfigmap/b created\n"), done.stderr


def test_openapi_2_explains_fields(world: World) -> None:
    told = world.kubectl("explain", "svc.spec.ports", "-o", "plaintext-openapiv2")
    assert "RESOURCE: ports <[]Object>" in told.stdout, told.stderr
    assert "targetPort" in told.stdout


def test_openapi_2_holds_every_served_kind() -> None:
    document = discovery.openapi2(Kinds())
    for one in discovery.SERVED.values():
        name = schemas.definition_name(one.group, one.version, one.kind)
        assert name is None or name in document["definitions"]
    references = {text.partition('"')[0] for text in json.dumps(document).split('"#/definitions/')[1:]}
    assert references <= document["definitions"].keys()
