"""A field that is accepted and that nothing acts on is on the page of differences, and nothing else is."""

from __future__ import annotations

from tests.embedded import inert


def test_the_page_lists_every_field_that_nothing_acts_on() -> None:
    assert inert.written(inert.PAGE.read_text()) == inert.PAGE.read_text(), "run `python -m tests.embedded.inert`"


def test_what_is_listed_by_hand_is_in_the_schemas_and_not_found_by_the_walk() -> None:
    known = set(inert.fields())
    listed = {(kind, field) for kind, names in inert.SAME_NAME.items() for field in names}
    assert listed <= known
    assert {(kind, field) for kind, field in listed if field not in inert.acting()} == set()  # it would find them
    kinds = {kind for kind, _ in known} | {f"{kind}.{field}" for kind, field in known}
    assert inert.NOT_OURS.keys() - kinds <= {"ExternalDocumentation"}


def test_the_walk_finds_a_field_that_the_code_knows_only_to_write() -> None:
    known, acting = set(inert.fields()), inert.acting()
    assert ("PodSpec", "setHostnameAsFQDN") in known
    assert "setHostnameAsFQDN" not in acting
    for kind, field in (("PodSpec", "nodeSelector"), ("Container", "envFrom"), ("ServiceSpec", "sessionAffinity")):
        assert (kind, field) in known
        assert field in acting
