"""The three kinds of patches, as pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded.api import schema as schemas
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.patches import json_patch, merge, strategic
from chaos.embedded.resources import DEPLOYMENT, POD, SERVICE


def test_merge_patch_follows_the_examples_of_rfc_7386() -> None:
    for target, patch, result in [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ]:
        assert merge(target, patch) == result


def test_json_patch_does_its_six_operations() -> None:
    document = {"a": {"b/c": 1, "l": [1, 2, 3]}, "x": 0}
    result = json_patch(
        document,
        [
            {"op": "test", "path": "/a/b~1c", "value": 1},
            {"op": "add", "path": "/a/l/-", "value": 4},
            {"op": "add", "path": "/a/l/0", "value": 0},
            {"op": "remove", "path": "/a/l/1"},
            {"op": "replace", "path": "/x", "value": 9},
            {"op": "copy", "from": "/x", "path": "/y"},
            {"op": "move", "from": "/x", "path": "/z"},
        ],
    )
    assert result == {"a": {"b/c": 1, "l": [0, 2, 3, 4]}, "y": 9, "z": 9}
    assert document == {"a": {"b/c": 1, "l": [1, 2, 3]}, "x": 0}


TEXT = "x" * (100 << 10)
GROWING: dict[str, list[dict[str, Any]]] = {  # patches of a few bytes that would make something without end
    "a list into itself": [{"op": "copy", "from": "/l", "path": "/l/-"}] * 60,
    "a map into itself": [{"op": "copy", "from": "/m", "path": f"/m/k{number}"} for number in range(60)],
    "the whole into a part": [{"op": "copy", "from": "", "path": "/m/k"}] * 60,
    "two that feed each other": [
        {"op": "copy", "from": one, "path": f"{other}/k{number}"}
        for number in range(40)
        for one, other in (("/m", "/n"), ("/n", "/m"))
    ],
    "one text many times": [{"op": "copy", "from": "/text", "path": f"/m/k{number}"} for number in range(40)],
    "deeper by each addition": [{"op": "add", "path": "/n" + "/x" * depth, "value": {}} for depth in range(1, 150)],
    "deeper by each move": [
        operation
        for number in range(200)
        for operation in (
            {"op": "add", "path": f"/m/c{number}", "value": {"x": {}}},
            {"op": "move", "from": "/n", "path": f"/m/c{number}/x/n"},
            {"op": "move", "from": f"/m/c{number}", "path": "/n"},
        )
    ],
}


@pytest.mark.parametrize("name", GROWING)
def test_a_small_patch_makes_no_large_or_deep_object(name: str) -> None:
    document = {"l": [TEXT], "m": {"a": TEXT}, "n": {"a": TEXT}, "text": TEXT}
    with pytest.raises(StatusError) as caught:
        json_patch(document, GROWING[name])
    assert caught.value.code in (400, 422)
    assert document == {"l": [TEXT], "m": {"a": TEXT}, "n": {"a": TEXT}, "text": TEXT}


def test_copies_of_three_megabytes_are_made() -> None:
    copies = [{"op": "copy", "from": "/text", "path": f"/m/k{number}"} for number in range(3)]
    assert len(json_patch({"m": {}, "text": "x" * ((1 << 20) - 2)}, copies)["m"]) == 3


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ([{"op": "remove", "path": "/no"}], 422),
        ([{"op": "replace", "path": "/no", "value": 1}], 422),
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "fly", "path": "/a"}], 422),
        ({"op": "add"}, 400),
        ([{"op": "add", "path": "a", "value": 1}], 400),
        ([{"op": "add", "path": "/a"}], 400),
        ([{"op": "move", "from": "/a", "path": "/a/b"}], 422),
        ([{"op": "add", "path": "/l/01x", "value": 1}], 422),
        ([7], 400),
    ],
)
def test_a_json_patch_that_does_not_fit_is_refused(operations: Any, code: int) -> None:
    with pytest.raises(StatusError) as error:
        json_patch({"a": 1, "l": []}, operations)
    assert error.value.code == code


INDEXES: list[tuple[dict[str, Any], list[Any] | None]] = [  # of the list [1, 2]; None: refused
    ({"op": "add", "path": "/l/-1", "value": 9}, [1, 2, 9]),
    ({"op": "add", "path": "/l/-2", "value": 9}, [1, 9, 2]),
    ({"op": "add", "path": "/l/2", "value": 9}, [1, 2, 9]),
    ({"op": "replace", "path": "/l/-1", "value": 9}, [1, 9]),
    ({"op": "remove", "path": "/l/-2"}, [2]),
    ({"op": "replace", "path": "/l/01", "value": 9}, [1, 9]),
    ({"op": "copy", "from": "/l/-1", "path": "/l/0"}, [2, 1, 2]),
    ({"op": "test", "path": "/l/-1", "value": 2}, [1, 2]),
    ({"op": "add", "path": "/l/-4", "value": 9}, None),
    *(
        ({"op": "replace", "path": f"/l/{index}", "value": 9}, None)
        for index in ("²", "\u0664", "1_0", "", " 1", "1e0", "9" * 10, "9" * 5000, "-3", "--1", "-", "x")
    ),
    ({"op": "copy", "from": "/l/²", "path": "/l/0"}, None),
    ({"op": "add", "path": "/l/²/x", "value": 9}, None),
    ({"op": "add", "path": "/l/0/x/y", "value": 9}, None),
]


@pytest.mark.parametrize(("operation", "result"), INDEXES)
def test_an_index_is_read_as_by_go(operation: dict[str, Any], result: list[Any] | None) -> None:
    if result is not None:
        assert json_patch({"l": [1, 2]}, [operation])["l"] == result
        return
    with pytest.raises(StatusError) as refused:
        json_patch({"l": [1, 2]}, [operation])
    assert refused.value.code == 422


def patched(resource: Any, target: Any, patch: Any) -> Any:
    return strategic(target, patch, schemas.of(resource))


def test_containers_merge_by_name_in_the_patches_order() -> None:
    target = {
        "spec": {
            "containers": [
                {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]},
                {"name": "b", "image": "1"},
            ]
        }
    }
    result = patched(
        POD,
        target,
        {
            "spec": {
                "containers": [
                    {"name": "b", "image": "2"},
                    {"name": "c", "image": "3"},
                    {"name": "a", "env": [{"name": "Y", "value": "2"}]},
                ]
            }
        },
    )
    assert result["spec"]["containers"] == [
        {"name": "b", "image": "2"},
        {"name": "c", "image": "3"},
        {"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
    ]


def test_directives_delete_replace_and_order() -> None:
    target = {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}
    gone = patched(POD, target, {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})
    assert [c["name"] for c in gone["spec"]["containers"]] == ["b"]
    new = patched(POD, target, {"spec": {"containers": [{"name": "z", "image": "9"}, {"$patch": "replace"}]}})
    assert [c["name"] for c in new["spec"]["containers"]] == ["z"] or new["spec"]["containers"][-1]["name"] == "z"
    ordered = patched(
        POD,
        target,
        {
            "spec": {
                "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "a", "image": "2"}],
            }
        },
    )
    assert [(c["name"], c["image"]) for c in ordered["spec"]["containers"]] == [("b", "1"), ("a", "2")]


def test_retained_keys_drop_the_other_member_of_a_union() -> None:
    target = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    result = patched(DEPLOYMENT, target, {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}})
    assert result["spec"]["strategy"] == {"type": "Recreate"}


def test_finalizers_are_a_set_and_can_be_taken_out_by_value() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}}
    assert patched(POD, target, {"metadata": {"finalizers": ["b", "c"]}})["metadata"]["finalizers"] == ["a", "b", "c"]
    assert patched(POD, target, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}})["metadata"][
        "finalizers"
    ] == ["b"]


def test_service_ports_merge_by_port_and_atomic_lists_are_replaced() -> None:
    target = {"spec": {"ports": [{"port": 80, "name": "http"}], "externalIPs": ["1.1.1.1"]}}
    result = patched(SERVICE, target, {"spec": {"ports": [{"port": 443, "name": "https"}], "externalIPs": ["2.2.2.2"]}})
    assert [p["port"] for p in result["spec"]["ports"]] == [443, 80]
    assert result["spec"]["externalIPs"] == ["2.2.2.2"]


def test_a_list_element_without_its_merge_key_is_refused() -> None:
    with pytest.raises(StatusError, match="does not contain declared merge key: name"):
        patched(POD, {"spec": {"containers": []}}, {"spec": {"containers": [{"image": "x"}]}})
