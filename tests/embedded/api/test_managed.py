"""Who owns which fields: what the recorded answers (tests/parity/answers, `n-managed-`) do not reach."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.embedded.api import fieldsets, managed
from chaos.embedded.api import schema as schemas
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.managed import APPLIED, Writer
from chaos.embedded.resources import CONFIG_MAP, POD, Object

AT = "2026-01-01T00:00:00Z"


def config_map(owners: list[dict[str, Any]] | None = None, **data: str) -> Object:
    owned = {} if owners is None else {"managedFields": owners}
    return {"metadata": {"name": "c", "namespace": "n", **owned}, "data": data}


def written(old: Object | None, new: Object, manager: str, at: str = AT) -> Object:
    owners = managed.updated(CONFIG_MAP, old, new, Writer(manager, "v1"), at)
    return config_map(owners, **new["data"])


def applied(old: Object | None, new: Object, manager: str, *, force: bool = False) -> Object:
    return managed.applied(CONFIG_MAP, old, new, writer=Writer(manager, "v1", operation=APPLIED), force=force, at=AT)


def owners(obj: Object) -> dict[str, set[str]]:
    """Manager -> the keys that it owns."""
    found: dict[str, set[str]] = {}
    for one in obj["metadata"].get("managedFields") or ():
        keys = {key[2:] for key in one["fieldsV1"].get("f:data", {}) if key != "."}
        found[one["manager"]] = found.get(one["manager"], set()) | keys  # by updates and by applies
    return found


@pytest.mark.parametrize(
    ("agent", "manager"),
    [
        ("kubectl/v1.36.3 (linux/amd64)", "kubectl"),
        ("OpenAPI-Generator/37.0/python", "OpenAPI-Generator"),
        ("", "unknown"),
        ("/1.0", "unknown"),
        ("a\tb\x00c/1", "abc"),
        ("é" * 100, "é" * 64),  # 128 bytes
    ],
)
def test_a_writer_without_a_manager_is_called_by_its_agent(agent: str, manager: str) -> None:
    assert managed.user_agents_manager(agent) == manager


def test_the_eleventh_updater_makes_the_oldest_two_one() -> None:
    held = written(None, config_map(k0="1"), "m0", "2026-01-01T00:00:00Z")
    for number in range(1, 12):
        new = config_map(held["metadata"]["managedFields"], **held["data"], **{f"k{number}": "1"})
        held = written(held, new, f"m{number}", f"2026-01-01T00:00:{number:02}Z")
    found = owners(held)
    assert len(found) == 10
    assert found["ancient-changes"] == {"k0", "k1", "k2"}
    assert found["m11"] == {"k11"}


def test_an_object_that_nobody_owns_gets_an_owner_by_the_first_apply() -> None:
    assert managed.updated(CONFIG_MAP, config_map(a="1"), config_map(a="2"), Writer("m", "v1"), AT) is None
    with pytest.raises(StatusError, match=r'conflict with "before-first-apply" using v1: \.data\.a'):
        applied(config_map(a="1"), config_map(a="2"), "m")
    assert owners(applied(config_map(a="1", b="1"), config_map(a="2"), "m", force=True)) == {
        "before-first-apply": {"b"},
        "m": {"a"},
    }


def test_of_a_pods_struct_the_whole_goes_with_the_last_that_was_said_of_it() -> None:
    probe = {"httpGet": {"port": 80}}
    first = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "livenessProbe": probe}]}}
    writer = Writer("m", "v1", operation=APPLIED)
    held = managed.applied(POD, None, first, writer=writer, force=False, at=AT)
    held["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = 10  # a default
    again = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    assert managed.applied(POD, held, again, writer=writer, force=False, at=AT)["spec"]["containers"] == [
        {"name": "c", "image": "x"}
    ]


KEYS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"))
STEPS = st.lists(st.tuples(st.sampled_from(("one", "two", "three")), st.booleans(), KEYS), min_size=1, max_size=8)


@settings(max_examples=40)
@given(STEPS)
def test_whatever_is_written_every_key_has_an_owner_and_none_owns_what_is_not_there(
    steps: list[tuple[str, bool, dict[str, str]]],
) -> None:
    held: Object | None = None
    for manager, applies, data in steps:
        if applies:
            held = applied(held, config_map(None, **data), manager, force=True)
        else:
            before = None if held is None else held["metadata"].get("managedFields")
            held = written(held, config_map(before, **data), manager)
        if not held["metadata"].get("managedFields"):
            return  # nothing is owned any more, so that nothing is tracked
        owned = set().union(*owners(held).values())
        assert owned == set(held.get("data") or {})


@settings(max_examples=40)
@given(st.recursive(st.sampled_from([1, "x", None]), lambda inner: st.dictionaries(st.sampled_from("abc"), inner)))
def test_a_set_of_fields_is_read_as_it_was_written(value: Any) -> None:
    fields = set(fieldsets.fields_of({"spec": value}, {}))
    assert set(fieldsets.read(fieldsets.written(fields))) == fields


def test_a_container_is_compared_by_its_name_and_not_its_place() -> None:
    def pod(*names: str) -> Object:
        return {"metadata": {}, "spec": {"containers": [{"name": name, "image": "x"} for name in names]}}

    found = fieldsets.compare(pod("a", "b"), pod("b", "c"), schemas.reference(POD))
    item = ("f:spec", "f:containers", 'k:{"name":"c"}')
    assert {path for path in found.added if len(path) == 3} == {item}
    assert {path for path in found.removed if len(path) == 3} == {(*item[:2], 'k:{"name":"a"}')}
    assert found.modified == set()


REPLICAS = ("f:spec", "f:replicas")


def entry(
    manager: str, *fields: str, operation: str = "Update", version: str = "apps/v1", sub: str = ""
) -> dict[str, Any]:
    owned: dict[str, Any] = {f"f:{name}": {} for name in fields}
    through = {"subresource": sub} if sub else {}
    head = {"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1"}
    return head | {"fieldsV1": {"f:spec": owned}} | through


SCALES: list[tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]] = [  # before, of the Scale, after
    (  # taken from an updater, who keeps the rest
        [entry("a", "replicas", "paused")],
        [entry("b", "replicas", operation="Apply", version="autoscaling/v1", sub="scale")],
        [entry("b", "replicas", operation="Apply", sub="scale"), entry("a", "paused")],
    ),
    (  # taken from one who had nothing else
        [entry("a", "replicas")],
        [entry("b", "replicas", operation="Apply", version="autoscaling/v1", sub="scale")],
        [entry("b", "replicas", operation="Apply", sub="scale")],
    ),
    (  # shared: the same number was applied
        [entry("a", "replicas", "paused", operation="Apply")],
        [
            entry("a", "replicas", operation="Apply", version="autoscaling/v1"),
            entry("b", "replicas", operation="Apply", version="autoscaling/v1", sub="scale"),
        ],
        [entry("a", "paused", "replicas", operation="Apply"), entry("b", "replicas", operation="Apply", sub="scale")],
    ),
    (  # given up
        [entry("b", "replicas", operation="Apply", sub="scale"), entry("a", "paused")],
        [],
        [entry("a", "paused")],
    ),
]


@pytest.mark.parametrize(("held", "given", "after"), SCALES)
def test_who_owns_the_number_in_a_scale_owns_it_in_the_object(
    held: list[dict[str, Any]], given: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    assert managed.with_scale(held, given, REPLICAS, "apps/v1") == after
    assert managed.with_scale(after, managed.of_scale(after, REPLICAS, "autoscaling/v1"), REPLICAS, "apps/v1") == after


def test_the_owners_of_a_scale_are_those_of_the_number() -> None:
    held = [entry("a", "replicas", "paused"), entry("c", "paused")]
    assert managed.of_scale(held, REPLICAS, "autoscaling/v1") == [entry("a", "replicas", version="autoscaling/v1")]
