"""CustomResourceDefinitions and their objects: those of real meshes, and a row for each thing a definition can say."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes.client as k8s
import pytest
import yaml

from chaos.embedded.api.custom import definitions, fits, structural, values
from chaos.kube.client import Cluster
from tests.embedded.api.conftest import World

MESHES = Path(__file__).parent / "meshes"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_numbers = iter(range(1, 1_000_000))


def definitions_of(mesh: str) -> list[dict[str, Any]]:
    found = yaml.load_all(gzip.decompress((MESHES / f"{mesh}.yaml.gz").read_bytes()), LOADER)
    return [one for one in found if one and one["kind"] == "CustomResourceDefinition"]


def objects_of(path: Path) -> Iterator[dict[str, Any]]:
    for document in yaml.load_all(path.read_text(), LOADER):
        if isinstance(document, dict):
            yield from document.get("items") or [document]


def definition(schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A definition of a kind of its own, of one version unless told otherwise."""
    number = next(_numbers)
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    names = {"plural": f"widgets{number}", "kind": f"Widget{number}"} | more.pop("names", {})
    spec = {"group": "example.com", "scope": "Namespaced", "names": names}
    spec["versions"] = more.pop("versions", None) or [version | more.pop("version", {})]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.example.com"},
        "spec": spec | more,
    }


def version_of(schema: dict[str, Any], name: str = "v1", *, storage: bool = True, **more: Any) -> dict[str, Any]:
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}} | more


class Client:
    """Plain requests, with their codes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._pool = k8s.ApiClient(cluster.configuration).rest_client.pool_manager

    def __call__(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        answer = self._pool.request(
            method,
            self._cluster.host + path,
            body=json.dumps(body) if body is not None else None,
            headers={"Content-Type": kind},
        )
        return answer.status, json.loads(answer.data)

    def lines(self, path: str) -> list[dict[str, Any]]:
        """The lines of a watch."""
        return [json.loads(line) for line in self._pool.request("GET", self._cluster.host + path).data.splitlines()]

    def define(self, made: dict[str, Any]) -> tuple[str, str]:
        """Create a definition and wait until it is served: the path of its objects, and their kind."""
        code, said = self("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", made)
        assert code == 201, said
        name, spec = made["metadata"]["name"], made["spec"]
        served = next(one["name"] for one in spec["versions"] if one["served"])
        path = f"/apis/{spec['group']}/{served}"
        self._cluster.wait(
            "established", lambda: self("GET", f"{path}/{spec['names']['plural']}")[0] == 200, every=0.01
        )
        assert name
        return path, spec["names"]["kind"]


@pytest.fixture
def call(world: World) -> Client:
    return Client(world.cluster)


def widget(kind: str, name: str = "w", version: str = "v1", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": f"example.com/{version}", "kind": kind, "metadata": {"name": name}, **fields}


# ---- real meshes


@pytest.mark.parametrize("mesh", ["gateway-api", "istio", "linkerd"])
def test_every_definition_of_a_mesh_is_valid_and_keeps_its_schema(mesh: str) -> None:
    for one in definitions_of(mesh):
        definitions.apply_defaults(one)
        assert list(definitions.validate(one)) == [], one["metadata"]["name"]


@pytest.fixture(scope="module")
def meshes(world: World) -> World:
    """All three meshes' definitions, applied by stock kubectl and served."""
    for mesh in ("gateway-api", "istio", "linkerd"):
        text = "---\n".join(json.dumps(one) + "\n" for one in definitions_of(mesh))
        applied = world.kubectl("apply", "--server-side", "-f", "-", stdin=text)
        assert applied.returncode == 0, applied.stderr
    waited = world.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    assert waited.returncode == 0, waited.stderr
    return world


def test_applied_definitions_come_back_as_they_were_given(meshes: World) -> None:
    held = {
        one["metadata"]["name"]: one for one in json.loads(meshes.kubectl("get", "crd", "-o", "json").stdout)["items"]
    }
    for mesh in ("gateway-api", "istio", "linkerd"):
        for one in definitions_of(mesh):
            definitions.apply_defaults(one)
            assert held[one["metadata"]["name"]]["spec"] == one["spec"]


_SERVERS = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "annotations",
)


def comparable(obj: dict[str, Any]) -> dict[str, Any]:
    meta = {name: value for name, value in obj["metadata"].items() if name not in _SERVERS}
    return {**{name: value for name, value in obj.items() if name != "status"}, "metadata": meta}


_PATHS = {
    "Gateway": "apis/gateway.networking.k8s.io/v1",
    "Deployment": "apis/apps/v1",
    "DaemonSet": "apis/apps/v1",
    "Service": "api/v1",
    "ServiceAccount": "api/v1",
    "ConfigMap": "api/v1",
}


def without_addresses(service: dict[str, Any]) -> dict[str, Any]:
    """A Service without what another cluster allots otherwise."""
    spec = {**service["spec"], "ports": [{**one} for one in service["spec"].get("ports") or []]}
    if spec.get("clusterIP") != "None":
        spec = {name: value for name, value in spec.items() if name not in ("clusterIP", "clusterIPs")}
    for port in spec["ports"]:
        port.pop("nodePort", None)
    return {**service, "spec": spec}


@pytest.mark.parametrize("path", sorted((MESHES / "objects").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_meshs_object_round_trips_as_the_real_server_answered(meshes: World, call: Client, path: Path) -> None:
    compared = 0
    for obj in objects_of(path):
        kind, meta = obj["kind"], obj["metadata"]
        if kind not in _PATHS or (kind, meta["name"]) == ("ServiceAccount", "default"):
            continue
        space = meta["namespace"] = f"round-{next(_numbers)}"
        meshes.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        sent = comparable(obj)
        if kind == "Service":
            sent = without_addresses(sent)
        code, answered = call("POST", f"/{_PATHS[kind]}/namespaces/{space}/{kind.lower()}s", sent)
        assert code == 201, answered
        seen = comparable(answered)
        assert (without_addresses(seen) if kind == "Service" else seen) == sent
        compared += 1
    assert compared or path.stem.endswith(("namespaces", "webhook"))


def test_a_gateway_shows_what_its_definition_prints_and_defaults(meshes: World, namespace: str) -> None:
    gateway: dict[str, Any] = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": namespace},
        "spec": {"gatewayClassName": "c", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    }
    made = meshes.kubectl("apply", "-f", "-", stdin=json.dumps(gateway))
    assert made.stdout == "gateway.gateway.networking.k8s.io/g created\n", made.stderr
    shown = meshes.kubectl("get", "gtw", "-n", namespace)
    assert shown.stdout.split()[:5] == ["NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"]
    assert shown.stdout.split()[5:8] == ["g", "c", "Unknown"]
    held = json.loads(meshes.kubectl("get", "gateway", "g", "-n", namespace, "-o", "json").stdout)
    assert held["spec"]["listeners"][0]["allowedRoutes"] == {"namespaces": {"from": "Same"}}
    assert [one["type"] for one in held["status"]["conditions"]] == ["Accepted", "Programmed"]
    listener = {"name": "https", "port": 80, "protocol": "HTTP"}
    gateway["spec"]["listeners"].append(listener)
    refused = meshes.kubectl("apply", "-f", "-", stdin=json.dumps(gateway))
    assert refused.stderr == (
        'The Gateway "g" is invalid: spec.listeners: Invalid value: Combination of port, protocol and hostname must be '
        "unique for each listener\n"
    )
    listener["port"] = 81
    assert meshes.kubectl("apply", "-f", "-", stdin=json.dumps(gateway)).returncode == 0
    explained = meshes.kubectl("explain", "gateway.spec.listeners.port")
    assert "FIELD: port <integer>" in explained.stdout, explained.stderr


# ---- definitions

TEXT = {"type": "string"}


def obj(**properties: Any) -> dict[str, Any]:
    """The schema of an object."""
    return {"type": "object", "properties": properties}


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("no type at the root", {"properties": {}}, "type: Required value: must not be empty at the root"),
    ("root is no object", {"type": "string"}, 'type: Invalid value: "string": must be object at the root'),
    (
        "no type of a field",
        {"type": "object", "properties": {"a": {}}},
        "properties[a].type: Required value: must not be empty for specified object fields",
    ),
    (
        "no items",
        {"type": "object", "properties": {"a": {"type": "array"}}},
        "properties[a].items: Required value: must be specified",
    ),
    (
        "no type of items",
        {"type": "object", "properties": {"a": {"type": "array", "items": {}}}},
        "properties[a].items.type: Required value: must not be empty for specified array items",
    ),
    (
        "a type in a junctor",
        {"type": "object", "properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}},
        "properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
    ),
    (
        "a field that only a junctor knows",
        {"type": "object", "oneOf": [{"properties": {"b": {"minLength": 1}}}]},
        "properties[b]: Required value: because it is defined in "
        "spec.versions[0].schema.openAPIV3Schema.oneOf[0].properties[b]",
    ),
    (
        "both properties and others",
        {
            "type": "object",
            "properties": {"a": {"type": "object", "properties": {"b": TEXT}, "additionalProperties": TEXT}},
        },
        "properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
    ),
    (
        "others at the root",
        {"type": "object", "additionalProperties": TEXT},
        "additionalProperties: Forbidden: must not be used at the root",
    ),
    (
        "a reference",
        {"type": "object", "properties": {"a": {"type": "object", "$ref": "#/x"}}},
        "$ref is not supported",
    ),
    (
        "unique items",
        {"type": "object", "properties": {"a": {"type": "array", "items": TEXT, "uniqueItems": True}}},
        "uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
    ),
    (
        "an unknown type",
        {"type": "object", "properties": {"a": {"type": "text"}}},
        'type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "strin',
    ),
    (
        "a pattern that is none",
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
        "must be a valid regular expression, but isn't: error parsing regexp: missing",
    ),
    (
        "a default that does not fit",
        {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}},
        'properties[a].default: Invalid value: "string":  in body must be of type integer',
    ),
    (
        "a default with fields that are not known",
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": TEXT}, "default": {"c": 1}}}},
        "must not have unspecified fields: c",
    ),
    (
        "metadata",
        {
            "type": "object",
            "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}},
        },
        "must not specify anything other than name and generateName, but metadata is implicitly specified",
    ),
    (
        "a map list without keys",
        {
            "type": "object",
            "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}},
        },
        "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
    ),
    (
        "a key that may be missing",
        {
            "type": "object",
            "properties": {
                "a": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": TEXT}},
                }
            },
        },
        "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
    ),
    (
        "a set of objects",
        {
            "type": "object",
            "properties": {"a": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}},
        },
        "must be atomic as item of a list with x-kubernetes-list-type=set",
    ),
    (
        "an embedded resource that is none",
        {"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-embedded-resource": True}}},
        "must be object if x-kubernetes-embedded-resource is true",
    ),
    (
        "a rule that names no field",
        {"type": "object", "x-kubernetes-validations": [{"rule": "self.nope == 1"}]},
        "compilation failed: ERROR: <input>:1:5: undefined field 'nope'",
    ),
    (
        "a rule that gives no answer",
        {"type": "object", "properties": {"a": TEXT | {"x-kubernetes-validations": [{"rule": "self"}]}}},
        "cel expression must evaluate to a bool",
    ),
    (
        "an old value that cannot be told",
        {
            "type": "object",
            "properties": {
                "a": {"type": "array", "items": TEXT | {"x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}
            },
        },
        "oldSelf cannot be used on the uncorrelatable portion of the schema within "
        "spec.versions[0].schema.openAPIV3Schema.properties[a]",
    ),
    (
        "what is not evaluated here",
        {"type": "object", "x-kubernetes-validations": [{"rule": "true", "optionalOldSelf": True}]},
        "the embedded cluster does not evaluate rules with optionalOldSelf",
    ),
    ("nullable at the root", {"type": "object", "nullable": True}, "nullable cannot be true at the root"),
]


@pytest.mark.parametrize(("schema", "why"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_schema_that_is_not_structural_is_refused_in_kubernetes_words(schema: dict[str, Any], why: str) -> None:
    found = structural.faults(schema, "spec.versions[0].schema.openAPIV3Schema", status=False)
    assert any(why in str(cause) for cause in found), [str(one) for one in found]


PLAIN = {"type": "object"}
LISTED = {"type": "object", "properties": {"a": {"type": "array", "items": TEXT}}}
COLUMN = {"name": "A", "type": "text", "jsonPath": ".a"}
SCALE = {"specReplicasPath": ".replicas", "statusReplicasPath": ".status.replicas"}


def versions(*found: dict[str, Any]) -> dict[str, Any]:
    return {"versions": list(found)}


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("its name", {"metadata": {"name": "other"}}, 'must be spec.names.plural+"."+spec.group'),
    ("no scope", {"scope": ""}, "spec.scope: Required value"),
    ("another scope", {"scope": "Some"}, 'supported values: "Cluster", "Namespaced"'),
    ("a group without a dot", {"group": "example"}, "should be a domain with at least one dot"),
    ("a webhook", {"conversion": {"strategy": "Webhook"}}, definitions.NO_WEBHOOK),
    ("all fields kept", {"preserveUnknownFields": True}, "cannot set to true, set x-kubernetes-preserve-unknown-"),
    (
        "two stored versions",
        versions(version_of(PLAIN), version_of(PLAIN, "v2")),
        "must have exactly one version marked as storage version",
    ),
    (
        "a version twice",
        versions(version_of(PLAIN), version_of(PLAIN, storage=False)),
        "must contain unique version names",
    ),
    ("no schema", versions({"name": "v1", "served": True, "storage": True}), "openAPIV3Schema: Required value"),
    (
        "a column's type",
        versions(version_of(PLAIN, additionalPrinterColumns=[COLUMN])),
        "must be one of boolean,date,integer,number,string",
    ),
    ("a scale's path", versions(version_of(PLAIN, subresources={"scale": SCALE})), "should be a json path under .spec"),
    (
        "a selectable list",
        versions(version_of(LISTED, selectableFields=[{"jsonPath": ".a"}])),
        "must point to a field of type string, boolean or integer",
    ),
    ("a protected group", {"group": "x.k8s.io"}, "protected groups must have approval annotation"),
    (
        "kind and list kind",
        {"names": {"plural": "widgets", "kind": "W", "listKind": "W"}},
        "kind and listKind may not be the same",
    ),
]


@pytest.mark.parametrize(("change", "why"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_definition_that_is_wrong_is_refused_in_kubernetes_words(change: dict[str, Any], why: str) -> None:
    made = definition()
    for name, value in change.items():
        (made if name == "metadata" else made["spec"])[name] = value
    definitions.apply_defaults(made)
    found = list(definitions.validate(made))
    assert any(why in str(cause) for cause in found), [str(one) for one in found]


# ---- values

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["must"],
    "properties": {
        "must": TEXT,
        "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9},
        "step": {"type": "number", "multipleOf": 0.5, "exclusiveMinimum": True, "minimum": 0},
        "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
        "mode": {"type": "string", "enum": ["A", "B"]},
        "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "maybe": {"type": "string", "nullable": True},
        "list": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer"}},
        "map": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "boolean"}},
        "when": {"type": "string", "format": "date-time"},
        "wait": {"type": "string", "format": "duration"},
        "address": {"type": "string", "format": "ipv4"},
        "one": {
            "type": "object",
            "properties": {"a": TEXT, "b": TEXT},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        "not": {"type": "string", "not": {"enum": ["x"]}},
    },
}
MISFITS: list[tuple[dict[str, Any], str]] = [
    ({}, "must: Required value"),
    ({"must": 1}, 'must: Invalid value: "integer": must in body must be of type string: "integer"'),
    ({"must": None}, 'must: Invalid value: "null": must in body must be of type string: "null"'),
    ({"size": 0}, "size: Invalid value: 0: size in body should be greater than or equal to 1"),
    ({"size": 10}, "size: Invalid value: 10: size in body should be less than or equal to 9"),
    ({"size": 1.5}, 'size: Invalid value: "float64": size in body must be of type int32: "float64"'),
    ({"step": 0}, "step: Invalid value: 0: step in body should be greater than 0"),
    ({"step": 0.7}, "step: Invalid value: 0.7: step in body should be a multiple of 0.5"),
    ({"name": "a"}, 'name: Invalid value: "a": name in body should be at least 2 chars long'),
    ({"name": "abcde"}, "name: Too long: may not be more than 4 bytes"),
    ({"name": "AB"}, "name: Invalid value: \"AB\": name in body should match '^[a-z]+$'"),
    ({"mode": "C"}, 'mode: Unsupported value: "C": supported values: "A", "B"'),
    ({"port": True}, 'port: Invalid value: "boolean": port in body must be of type integer,string: "boolean"'),
    ({"list": []}, "list: Invalid value: 0: list in body should have at least 1 items"),
    ({"list": [1, 2, 3]}, "list: Too many: 3: must have at most 2 items"),
    ({"list": [1, "x"]}, 'list[1]: Invalid value: "string": list[1] in body must be of type integer: "string"'),
    ({"map": {"a": True, "b": False}}, "map: Too many: 2: must have at most 1 items"),
    ({"map": {"a": 1}}, 'map.a: Invalid value: "integer": map.a in body must be of type boolean: "integer"'),
    ({"when": "today"}, 'when: Invalid value: "today": when in body must be of type date-time: "today"'),
    ({"wait": "long"}, 'wait: Invalid value: "long": wait in body must be of type duration: "long"'),
    ({"address": "::1"}, 'address: Invalid value: "::1": address in body must be of type ipv4: "::1"'),
    ({"one": {}}, '<nil>: Invalid value: "": "one" must validate one and only one schema (oneOf). Found none valid'),
    ({"one": {"a": "", "b": ""}}, '"one" must validate one and only one schema (oneOf). Found 2 valid alternatives'),
    ({"not": "x"}, '<nil>: Invalid value: "": "not" must not validate the schema (not)'),
]


@pytest.mark.parametrize(("value", "why"), MISFITS, ids=[str(row[0]) for row in MISFITS])
def test_a_value_that_does_not_fit_is_told_in_kubernetes_words(value: dict[str, Any], why: str) -> None:
    found = [str(cause) for cause in fits.misfits({"must": "x", **value} if value else value, SCHEMA)]
    assert any(why in one for one in found), found


@pytest.mark.parametrize(
    "value",
    [
        {"size": 9, "step": 1.5, "name": "abcd", "mode": "A", "port": 1},
        {"port": "80%", "maybe": None, "list": [1], "map": {"a": True}, "size": 3.0},
        {"when": "2026-01-02T03:04:05Z", "wait": "1h2m", "address": "10.0.0.1", "one": {"a": ""}, "not": "y"},
    ],
)
def test_a_value_that_fits_is_accepted(value: dict[str, Any]) -> None:
    assert fits.misfits({"must": "x", **value}, SCHEMA) == []


def test_an_update_may_leave_what_did_not_fit_and_not_worsen_it() -> None:
    old = {"must": "x", "name": "A", "size": 100}
    assert fits.misfits({**old, "mode": "A"}, SCHEMA, old=old) == []
    assert len(fits.misfits({**old, "size": 101}, SCHEMA, old=old)) == 1


def test_what_the_schema_does_not_know_is_pruned_and_named() -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "a": TEXT,
                    "list": {"type": "array", "items": {"type": "object", "properties": {"k": TEXT}}},
                },
            },
            "free": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"b": {"type": "object", "properties": {"c": TEXT}}},
            },
            "inner": {
                "type": "object",
                "x-kubernetes-embedded-resource": True,
                "properties": {"spec": {"type": "object"}},
            },
        },
    }
    value = {
        "apiVersion": "a/v1",
        "kind": "A",
        "metadata": {"name": "x"},
        "spec": {"a": "1", "b": 2, "list": [{"k": "v", "z": 1}]},
        "free": {"any": {"thing": 1}, "b": {"c": "x", "d": 1}},
        "inner": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "other": 1},
        "more": 1,
    }
    assert values.prune(value, schema) == ["free.b.d", "inner.other", "more", "spec.b", "spec.list[0].z"]
    assert value["spec"] == {"a": "1", "list": [{"k": "v"}]}
    assert value["free"] == {"any": {"thing": 1}, "b": {"c": "x"}}
    assert value["inner"] == {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}}


def test_defaults_are_filled_in_and_nulls_taken_out() -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "default": {},
                "properties": {
                    "size": {"type": "integer", "default": 3},
                    "maybe": {"type": "string", "nullable": True, "default": "d"},
                    "plain": TEXT,
                    "items": {
                        "type": "array",
                        "items": {"type": "object", "properties": {"k": {"type": "string", "default": "v"}}},
                    },
                },
            }
        },
    }
    value: dict[str, Any] = {}
    values.fill(value, schema)
    assert value == {"spec": {"size": 3, "maybe": "d"}}
    given: dict[str, Any] = {"spec": {"size": None, "maybe": None, "plain": None, "items": [{}]}}
    values.fill(given, schema)
    assert given == {"spec": {"size": 3, "maybe": None, "items": [{"k": "v"}]}}


# ---- served

RULED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "x-kubernetes-validations": [
                {
                    "rule": "self.low <= self.high",
                    "messageExpression": "'low, ' + (self.low > 10 ? 'over ten' : 'up to ten') + ', is above high'",
                },
                {"rule": "!has(oldSelf.fixed) || self.fixed == oldSelf.fixed", "message": "fixed cannot change"},
                {"rule": "self.low != 7", "message": "not seven", "reason": "FieldValueForbidden", "fieldPath": ".low"},
            ],
            "properties": {
                "low": {"type": "integer", "default": 1},
                "high": {"type": "integer", "default": 10},
                "fixed": TEXT,
                "tags": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["key"],
                    "items": {"type": "object", "required": ["key"], "properties": {"key": TEXT, "value": TEXT}},
                },
                "names": {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
            },
        }
    },
}


def test_rules_hold_for_new_objects_and_for_changes(call: Client, namespace: str) -> None:
    made = definition(RULED)
    path, kind = call.define(made)
    objects = f"{path}/namespaces/{namespace}/{made['spec']['names']['plural']}"
    code, said = call("POST", objects, widget(kind, spec={"low": 11}))
    assert (code, said["message"]) == (
        422,
        f'{kind}.example.com "w" is invalid: spec: Invalid value: low, over ten, is above high',
    )
    code, said = call("POST", objects, widget(kind, spec={"low": 7}))
    assert said["details"]["causes"] == [
        {"reason": "FieldValueForbidden", "message": "Forbidden: not seven", "field": "spec.low"}
    ]
    code, said = call("POST", objects, widget(kind, spec={"fixed": "a"}))
    assert (code, said["spec"]) == (201, {"low": 1, "high": 10, "fixed": "a"})
    merge = "application/merge-patch+json"
    code, said = call("PATCH", f"{objects}/w", {"spec": {"fixed": "b"}}, merge)
    assert (code, said["message"].partition("invalid: ")[2]) == (422, "spec: Invalid value: fixed cannot change")
    code, said = call("PATCH", f"{objects}/w", {"spec": {"high": 12}}, merge)
    assert (code, said["metadata"]["generation"]) == (200, 2)
    code, said = call("PATCH", f"{objects}/w", {"metadata": {"labels": {"a": "b"}}}, merge)
    assert (code, said["metadata"]["generation"]) == (200, 2)
    code, said = call("PATCH", f"{objects}/w", {"spec": {"names": ["a", "a"]}}, merge)
    assert said["message"].endswith('spec.names[1]: Duplicate value: "a"')
    code, said = call("PATCH", f"{objects}/w", {"spec": {"tags": [{"key": "a"}, {"key": "a"}]}}, merge)
    assert said["message"].endswith('spec.tags[1]: Duplicate value: {"key":"a"}')
    code, said = call("PUT", f"{objects}/w", widget(kind, spec={}))
    plural = made["spec"]["names"]["plural"]
    assert said["message"] == (
        f'{plural}.example.com "w" is invalid: metadata.resourceVersion: Invalid value: 0: '
        "must be specified for an update"
    )
    code, said = call("PATCH", f"{objects}/w", {}, "application/strategic-merge-patch+json")
    assert code == 415


def test_an_apply_owns_what_it_gives_and_merges_lists_by_their_keys(call: Client, namespace: str) -> None:
    made = definition(RULED)
    path, kind = call.define(made)
    one = f"{path}/namespaces/{namespace}/{made['spec']['names']['plural']}/w"
    for manager, tag in (("a", {"key": "x", "value": "1"}), ("b", {"key": "y"})):
        code, said = call(
            "PATCH", f"{one}?fieldManager={manager}", widget(kind, spec={"tags": [tag]}), "application/apply-patch+yaml"
        )
        assert code in (200, 201), said
    assert said["spec"] == {"low": 1, "high": 10, "tags": [{"key": "x", "value": "1"}, {"key": "y"}]}
    owned = {entry["manager"]: entry["fieldsV1"] for entry in said["metadata"]["managedFields"]}
    assert owned["a"]["f:spec"] == {"f:tags": {'k:{"key":"x"}': {".": {}, "f:key": {}, "f:value": {}}}}
    code, said = call(
        "PATCH",
        f"{one}?fieldManager=b",
        widget(kind, spec={"tags": [{"key": "x", "value": "2"}]}),
        "application/apply-patch+yaml",
    )
    assert (code, said["reason"]) == (409, "Conflict")
    code, said = call("PATCH", f"{one}?fieldManager=b", widget(kind, spec={"nope": 1}), "application/apply-patch+yaml")
    assert "field not declared in schema" in said["message"]


def test_unknown_fields_are_dropped_warned_of_or_refused(call: Client, namespace: str) -> None:
    made = definition(RULED)
    path, kind = call.define(made)
    objects = f"{path}/namespaces/{namespace}/{made['spec']['names']['plural']}"
    code, said = call("POST", f"{objects}?fieldValidation=Strict", widget(kind, spec={"nope": 1}))
    assert (code, said["message"]) == (
        400,
        f'{kind} in version "v1" cannot be handled as a {kind}: strict decoding error: unknown field "spec.nope"',
    )
    code, said = call("POST", objects, widget(kind, spec={"nope": 1, "low": 2}))
    assert (code, said["spec"]) == (201, {"low": 2, "high": 10})


SCALED = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}, "color": TEXT}},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": TEXT}},
    },
}


def test_status_and_scale_are_subresources_of_their_own(call: Client, world: World, namespace: str) -> None:
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    made = definition(SCALED, version={"subresources": {"status": {}, "scale": scale}})
    path, kind = call.define(made)
    plural = made["spec"]["names"]["plural"]
    objects = f"{path}/namespaces/{namespace}/{plural}"
    code, said = call("POST", objects, widget(kind, spec={"replicas": 2}, status={"replicas": 9}))
    assert (code, "status" in said) == (201, False)
    merge = "application/merge-patch+json"
    code, said = call(
        "PATCH", f"{objects}/w/status", {"spec": {"replicas": 5}, "status": {"replicas": 2, "selector": "a=b"}}, merge
    )
    assert (said["spec"], said["status"], said["metadata"]["generation"]) == (
        {"replicas": 2},
        {"replicas": 2, "selector": "a=b"},
        1,
    )
    code, said = call("GET", f"{objects}/w/scale")
    assert (said["kind"], said["spec"], said["status"]) == (
        "Scale",
        {"replicas": 2},
        {"replicas": 2, "selector": "a=b"},
    )
    scaled = world.kubectl("scale", f"{plural}.example.com/w", "--replicas=4", "-n", namespace)
    assert scaled.returncode == 0, scaled.stderr
    code, said = call("GET", f"{objects}/w")
    assert (said["spec"]["replicas"], said["status"]["replicas"], said["metadata"]["generation"]) == (4, 2, 2)
    code, said = call("PATCH", f"{objects}/w", {"spec": {"replicas": -1}}, merge)
    assert said["message"].endswith(".spec.replicas: Invalid value: -1: should be a non-negative integer")


def test_versions_of_a_kind_show_the_same_objects(call: Client, world: World, namespace: str) -> None:
    loose = {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}
    made = definition(
        versions=[
            version_of(loose, "v1alpha1", storage=False, deprecated=True),
            version_of(loose, "v1"),
            version_of(loose, "v2", storage=False, served=False),
        ]
    )
    path, kind = call.define(made)
    plural = made["spec"]["names"]["plural"]
    alpha, stable = (f"/apis/example.com/{version}/namespaces/{namespace}/{plural}" for version in ("v1alpha1", "v1"))
    code, said = call("POST", alpha, widget(kind, version="v1alpha1", spec={"a": 1}))
    assert (code, said["apiVersion"]) == (201, "example.com/v1alpha1")
    code, said = call("GET", f"{stable}/w")
    assert (said["apiVersion"], said["spec"]) == ("example.com/v1", {"a": 1})
    assert call("GET", alpha)[1]["items"][0]["spec"] == {"a": 1}
    assert call("GET", f"/apis/example.com/v2/namespaces/{namespace}/{plural}")[0] == 404
    code, said = call("POST", stable, widget(kind, "x", version="v1alpha1"))
    assert (code, said["message"]) == (
        400,
        "the API version in the data (example.com/v1alpha1) does not match the expected API version (example.com/v1)",
    )
    told = world.kubectl("get", f"{plural}.v1alpha1.example.com", "-n", namespace)
    assert f"Warning: example.com/v1alpha1 {kind} is deprecated" in told.stderr
    groups = {one["name"]: one for one in call("GET", "/apis")[1]["groups"]}
    assert [one["version"] for one in groups["example.com"]["versions"]] == ["v1", "v1alpha1"]
    assert path.endswith("v1alpha1")


def test_discovery_names_columns_and_selectors_follow_the_definition(
    call: Client, world: World, namespace: str
) -> None:
    columns = [
        {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"color": TEXT, "size": {"type": "integer"}}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    made = definition(
        schema,
        names={
            "plural": "gadgets",
            "kind": "Gadget",
            "singular": "gadget",
            "shortNames": ["gg"],
            "categories": ["toys"],
        },
        version={"additionalPrinterColumns": columns, "selectableFields": [{"jsonPath": ".spec.color"}]},
    )
    path, kind = call.define(made)
    objects = f"{path}/namespaces/{namespace}/gadgets"
    status = {"conditions": [{"type": "Other", "status": "No"}, {"type": "Ready", "status": "True"}]}
    for name, color in (("a", "red"), ("b", "blue")):
        assert call("POST", objects, widget(kind, name, spec={"color": color, "size": 3}, status=status))[0] == 201
    shown = world.kubectl("get", "gg", "-n", namespace, "--field-selector", "spec.color=red", "-o", "wide").stdout
    assert [line.split()[:4] for line in shown.splitlines()] == [
        ["NAME", "COLOR", "SIZE", "READY"],
        ["a", "red", "3", "True"],
    ]
    assert "gadget.example.com/b" in world.kubectl("get", "toys", "-n", namespace, "-o", "name").stdout
    code, said = call("GET", f"{objects}?fieldSelector=spec.size%3D3")
    assert (code, said["message"]) == (400, "field label not supported: spec.size")
    listed = {one["name"]: one for one in call("GET", path)[1]["resources"]}
    assert listed["gadgets"].pop("storageVersionHash")
    assert listed["gadgets"] == {
        "name": "gadgets",
        "singularName": "gadget",
        "namespaced": True,
        "kind": "Gadget",
        "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
        "shortNames": ["gg"],
        "categories": ["toys"],
    }
    before = call("GET", "/openapi/v3")[1]["paths"]["apis/example.com/v1"]["serverRelativeURL"]
    document = call("GET", "/openapi/v3/apis/example.com/v1")[1]["components"]["schemas"]["com.example.v1.Gadget"]
    assert document["properties"]["spec"]["properties"]["size"] == {"type": "integer"}
    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["new"] = TEXT
    applied = world.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(made))
    assert applied.returncode == 0, applied.stderr
    world.cluster.wait(
        "new schema",
        lambda: call("GET", "/openapi/v3")[1]["paths"]["apis/example.com/v1"]["serverRelativeURL"] != before,
        every=0.01,
    )
    assert world.kubectl("explain", "gadget.spec.new").stdout.count("FIELD: new <string>") == 1


def test_names_that_are_taken_are_not_accepted(call: Client, world: World) -> None:
    first = definition(names={"plural": "takens", "kind": "Taken", "shortNames": ["tk"]})
    call.define(first)
    second = definition(names={"plural": "others", "kind": "Taken", "shortNames": ["tk"]})
    assert call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", second)[0] == 201
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/others.example.com"

    def conditions() -> dict[str, Any]:
        return {one["type"]: one for one in call("GET", path)[1].get("status", {}).get("conditions", [])}

    world.cluster.wait("judged", lambda: "NamesAccepted" in conditions(), every=0.01)
    assert conditions()["NamesAccepted"]["status"] == "False"
    assert conditions()["NamesAccepted"]["message"] == '"TakenList" is already in use'
    assert conditions()["Established"] | {"lastTransitionTime": ""} == {
        "type": "Established",
        "status": "False",
        "reason": "NotAccepted",
        "message": "not all names are accepted",
        "lastTransitionTime": "",
    }
    call("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/takens.example.com")
    world.cluster.wait("accepted", lambda: conditions()["NamesAccepted"]["status"] == "True", every=0.01)


def test_a_definition_goes_after_its_objects_and_finalizers_hold_both(
    call: Client, world: World, namespace: str
) -> None:
    made = definition()
    path, kind = call.define(made)
    objects = f"{path}/namespaces/{namespace}/{made['spec']['names']['plural']}"
    held = widget(kind, "held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    assert [call("POST", objects, one)[0] for one in (held, widget(kind, "free"))] == [201, 201]
    of_definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{made['metadata']['name']}"
    assert call("DELETE", of_definition)[0] == 200
    world.cluster.wait("one left", lambda: len(call("GET", objects)[1]["items"]) == 1, every=0.01)
    told = {one["type"]: one["status"] for one in call("GET", of_definition)[1]["status"]["conditions"]}
    assert told["Terminating"] == "True"
    assert call("POST", objects, widget(kind, "late"))[0] == 405
    call("PATCH", f"{objects}/held", {"metadata": {"finalizers": []}}, "application/merge-patch+json")
    world.cluster.wait("gone", lambda: call("GET", of_definition)[0] == 404, every=0.01)
    world.cluster.wait("not served", lambda: call("GET", objects)[0] == 404, every=0.01)


def test_custom_objects_are_collected_with_their_owner_and_their_namespace(call: Client, world: World) -> None:
    made = definition()
    path, kind = call.define(made)
    space = f"custom-{next(_numbers)}"
    world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    objects = f"{path}/namespaces/{space}/{made['spec']['names']['plural']}"
    _, owner = call("POST", objects, widget(kind, "owner"))
    owned = widget(kind, "owned")
    reference = {"apiVersion": "example.com/v1", "kind": kind, "name": "owner", "uid": owner["metadata"]["uid"]}
    owned["metadata"]["ownerReferences"] = [reference]
    config = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
    assert call("POST", objects, owned)[0] == 201
    assert call("POST", f"/api/v1/namespaces/{space}/configmaps", config)[0] == 201
    call("DELETE", f"{objects}/owner")
    world.cluster.wait("collected", lambda: not call("GET", objects)[1]["items"], every=0.01)
    world.cluster.wait(
        "its map too", lambda: call("GET", f"/api/v1/namespaces/{space}/configmaps/owned")[0] == 404, every=0.01
    )
    assert call("POST", objects, widget(kind, "left"))[0] == 201
    call("DELETE", f"/api/v1/namespaces/{space}")
    world.cluster.wait("namespace gone", lambda: call("GET", f"/api/v1/namespaces/{space}")[0] == 404, every=0.02)
    assert call("GET", objects)[1]["items"] == []


def test_roles_reach_custom_kinds(call: Client, world: World, namespace: str) -> None:
    made = definition()
    path, kind = call.define(made)
    plural = made["spec"]["names"]["plural"]
    user = Client(world.user("carla"))
    objects = f"{path}/namespaces/{namespace}/{plural}"
    assert user("GET", objects)[0] == 403
    rules = [{"apiGroups": ["example.com"], "resources": [plural], "verbs": ["get", "list"]}]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    call("POST", f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": rules})
    subject = {"kind": "User", "name": "carla", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}
    call("POST", f"{rbac}/rolebindings", {"metadata": {"name": "r"}, "subjects": [subject], "roleRef": reference})
    assert user("GET", objects)[0] == 200
    assert user("POST", objects, widget(kind))[0] == 403


def test_a_watch_tells_of_custom_objects(world: World, call: Client, namespace: str) -> None:
    made = definition()
    path, kind = call.define(made)
    plural = made["spec"]["names"]["plural"]
    objects = f"{path}/namespaces/{namespace}/{plural}"
    version = call("GET", objects)[1]["metadata"]["resourceVersion"]
    call("POST", objects, widget(kind))
    call("DELETE", f"{objects}/w")
    seen = call.lines(f"{objects}?watch=1&timeoutSeconds=1&resourceVersion={version}")
    assert [(one["type"], one["object"]["kind"]) for one in seen] == [("ADDED", kind), ("DELETED", kind)]


@pytest.mark.parametrize(
    ("kind", "plural"),
    [("Job", "jobs"), ("Service", "services"), ("Pod", "pods"), ("Namespace", "spaces"), ("Event", "events")],
)
def test_a_custom_kind_of_a_built_in_name_is_none_of_it(call: Client, namespace: str, kind: str, plural: str) -> None:
    made = definition(names={"plural": plural, "kind": kind}, group="other.dev")
    made["metadata"]["name"] = f"{plural}.other.dev"
    path, _ = call.define(made)
    objects = f"{path}/namespaces/{namespace}/{plural}"
    sent = {"apiVersion": "other.dev/v1", "kind": kind, "metadata": {"name": "w"}, "spec": {"a": 1}}
    code, said = call("POST", objects, sent)
    assert (code, said.get("spec"), said.get("status")) == (201, {"a": 1}, None), said
    code, said = call("PATCH", f"{objects}/w", {"spec": {"b": 2}}, "application/merge-patch+json")
    assert (code, said.get("spec")) == (200, {"a": 1, "b": 2}), said
    assert call("DELETE", f"{objects}/w")[1]["status"] == "Success"
    assert call("GET", objects)[1]["items"] == []
