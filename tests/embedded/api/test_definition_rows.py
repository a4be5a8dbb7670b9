"""What a decoder keeps of a definition's schema, and what a definition is refused for beside its schema."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded.api import schema as schemas
from chaos.embedded.api.custom import definitions

SCHEMA = "#/$defs/io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"default": {}}, {"default": {}}),
        ({"default": []}, {"default": []}),
        ({"default": False}, {"default": False}),
        ({"default": {"a": None}}, {"default": {"a": None}}),
        ({"default": None}, {}),
        ({"example": {}}, {"example": {}}),
        ({"enum": [None, "a"]}, {"enum": [None, "a"]}),
        ({"items": {}}, {"items": {}}),
        ({"additionalProperties": {}}, {"additionalProperties": {}}),
        ({"additionalProperties": False}, {"additionalProperties": False}),
        ({"not": {}}, {"not": {}}),
        ({"properties": {"a": {"default": {}}}}, {"properties": {"a": {"default": {}}}}),
        ({"description": "", "required": [], "properties": {}}, {}),
        ({"items": {"nope": 1}}, {"items": {}}),  # below these Go drops unknown fields without a word
        ({"additionalProperties": {"nope": 1, "type": "string"}}, {"additionalProperties": {"type": "string"}}),
    ],
)
def test_what_is_empty_is_kept_where_it_says_something(given: dict[str, Any], kept: dict[str, Any]) -> None:
    findings = schemas.Findings([], [])
    assert schemas.clean(given, {"$ref": SCHEMA}, findings) == kept
    assert (findings.mismatches, findings.unknown) == ([], [])


@pytest.mark.parametrize("value", ["x", 1, ["a"]])
def test_other_properties_are_a_boolean_or_a_schema(value: Any) -> None:
    findings = schemas.Findings([], [])
    schemas.clean({"additionalProperties": value}, {"$ref": SCHEMA}, findings)
    assert findings.mismatches == ["boolean or JSON schema expected"]


def definition(*versions: dict[str, Any]) -> dict[str, Any]:
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    made = {
        "metadata": {"name": "things.a.b"},
        "spec": {"group": "a.b", "scope": "Namespaced", "names": names, "versions": [*versions]},
    }
    definitions.apply_defaults(made)
    return made


GOOD = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
RULED = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "x-kubernetes-validations": [{"rule": "self.nope < 1", "fieldPath": ".nope"}],
        }
    },
}
BROKEN: dict[str, Any] = {
    "schema": {"openAPIV3Schema": {"type": "string"}},
    "subresources": {"scale": {"specReplicasPath": "x", "statusReplicasPath": ".status.n"}},
}


@pytest.mark.parametrize(
    ("versions", "fields"),
    [
        ([GOOD], []),
        ([], ["spec.versions", "status.storedVersions"]),
        ([GOOD | {"storage": False}], ["spec.versions", "status.storedVersions"]),
        ([GOOD, GOOD | {"name": "v2"}], ["spec.versions", "status.storedVersions"]),
        ([GOOD | {"name": "V_1"}], ["spec.versions[0].name", "spec.version"]),
        ([GOOD, GOOD | {"name": "V_1", "storage": False}], ["spec.versions[1].name"]),
        ([GOOD | {"schema": {"openAPIV3Schema": {}}}], ["spec.validation.openAPIV3Schema.type"]),
        (
            [GOOD | {"schema": {}, "selectableFields": [{"jsonPath": ".spec.a"}]}],
            ["spec.versions[0].schema.openAPIV3Schema", "spec.selectableFields"],
        ),
        (  # what all versions have is told of the whole, and else of each
            [GOOD | BROKEN, GOOD | BROKEN | {"name": "v2", "storage": False}],
            ["spec.validation.openAPIV3Schema.type", "spec.subresources.scale.specReplicasPath"],
        ),
        (
            [GOOD | BROKEN, GOOD | {"name": "v2", "storage": False, "subresources": BROKEN["subresources"]}],
            ["spec.versions[0].schema.openAPIV3Schema.type", "spec.subresources.scale.specReplicasPath"],
        ),
        (
            [GOOD | {"schema": BROKEN["schema"]}, GOOD | BROKEN | {"name": "v2", "storage": False}],
            ["spec.versions[1].subresources.scale.specReplicasPath", "spec.validation.openAPIV3Schema.type"],
        ),
        (  # a path that leads nowhere is found before any rule is compiled
            [GOOD | {"schema": {"openAPIV3Schema": RULED}}],
            ["spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].fieldPath"],
        ),
    ],
)
def test_a_definition_is_refused_for_each_field_that_is_wrong(
    versions: list[dict[str, Any]], fields: list[str]
) -> None:
    assert [cause.field for cause in definitions.validate(definition(*versions))] == fields


def test_whether_a_version_is_served_and_stored_is_always_written() -> None:
    bare = definition({"name": "v1"})["spec"]["versions"][0]
    assert (bare["served"], bare["storage"]) == (False, False)
