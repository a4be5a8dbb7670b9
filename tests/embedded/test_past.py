"""Lists of the past: what was there at a version, which version a list means, and what is said when it is gone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chaos.embedded import store as stores
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.paging import LATEST, Page, page_asked, read_continue, write_continue
from chaos.embedded.resources import CONFIG_MAP, POD
from chaos.embedded.store import Expired, Store


def _seen(store: Store, version: int | None = None, namespace: str | None = None) -> list[tuple[str, str, str]]:
    held = store.list(CONFIG_MAP, namespace) if version is None else store.list_at(CONFIG_MAP, namespace, version)
    return [(one["metadata"]["namespace"], one["metadata"]["name"], one["metadata"]["resourceVersion"]) for one in held]


@pytest.mark.parametrize("seed", range(5))
def test_a_list_at_any_version_is_what_was_there(seed: int) -> None:
    chance, store = random.Random(seed), Store()
    past = {(namespace, store.version): _seen(store, namespace=namespace) for namespace in (None, "a")}
    for number in range(200):
        namespace, name = chance.choice("ab"), f"c-{chance.randrange(8)}"
        body: dict[str, Any] = {"metadata": {"namespace": namespace, "name": name}, "data": {"n": str(number)}}
        if chance.random() < 0.2:  # of another kind: a version in which nothing of this one changed
            store.create(POD, {"metadata": {"namespace": "a", "name": f"p-{number}"}})
        elif store.find(CONFIG_MAP, namespace, name) is None:
            store.create(CONFIG_MAP, body)
        elif chance.random() < 0.4:
            store.remove(CONFIG_MAP, namespace, name)
        else:
            store.update(CONFIG_MAP, body)
        past |= {(within, store.version): _seen(store, namespace=within) for within in (None, "a")}
    for (within, version), seen in past.items():
        assert _seen(store, version, within) == seen


def test_a_version_from_before_what_is_kept_is_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "HISTORY", 3)
    store = Store()
    for number in range(6):
        store.create(CONFIG_MAP, {"metadata": {"namespace": "a", "name": f"c-{number}"}})
    assert len(store.list_at(CONFIG_MAP, None, store.version - 3)) == 3
    with pytest.raises(Expired, match="too old resource version"):
        store.list_at(CONFIG_MAP, None, store.version - 4)


TOKEN = write_continue(5, ("a", "c"))
ASKED: list[tuple[dict[str, str], Page]] = [  # at version 9
    ({}, Page(None, None, None)),
    ({"limit": "2"}, Page(None, None, 2)),
    ({"limit": "0"}, Page(None, None, None)),
    ({"limit": "-1"}, Page(None, None, None)),
    ({"resourceVersion": "0", "limit": "2"}, Page(None, None, None)),
    ({"resourceVersion": "4"}, Page(None, None, None)),
    ({"resourceVersion": "4", "limit": "2"}, Page(4, None, 2)),
    ({"resourceVersion": "4", "limit": "2", "resourceVersionMatch": "NotOlderThan"}, Page(None, None, 2)),
    ({"resourceVersion": "4", "resourceVersionMatch": "NotOlderThan"}, Page(None, None, None)),
    ({"resourceVersion": "4", "resourceVersionMatch": "Exact"}, Page(4, None, None)),
    ({"resourceVersion": "9", "resourceVersionMatch": "Exact", "limit": "3"}, Page(9, None, 3)),
    ({"continue": TOKEN, "limit": "2"}, Page(5, ("a", "c"), 2)),
    ({"continue": TOKEN, "resourceVersion": "0"}, Page(5, ("a", "c"), None)),
    ({"continue": write_continue(LATEST, ("a", "c"))}, Page(None, ("a", "c"), None)),
]


@pytest.mark.parametrize(("query", "page"), ASKED)
def test_a_list_means_one_version(query: dict[str, str], page: Page) -> None:
    assert page_asked(query, 9) == page


REFUSED: list[tuple[dict[str, str], int, str]] = [
    ({"resourceVersion": "10"}, 504, "Too large resource version: 10, current: 9"),
    ({"resourceVersion": "10", "resourceVersionMatch": "Exact"}, 504, "Too large resource version"),
    ({"resourceVersion": "x"}, 400, "invalid resource version"),
    ({"continue": write_continue(10, ("a", "c"))}, 400, "continue key is not valid"),
    ({"continue": "x"}, 400, "invalid continue token"),
    ({"limit": "x"}, 400, "strconv.ParseInt"),
]


@pytest.mark.parametrize(("query", "code", "words"), REFUSED)
def test_a_list_of_no_version_is_refused(query: dict[str, str], code: int, words: str) -> None:
    with pytest.raises(StatusError) as refused:
        page_asked(query, 9)
    assert refused.value.code == code
    assert words in refused.value.message


def test_what_is_expired_says_how_to_go_on() -> None:
    first, later = Page(4, None, 2).expired().status(), Page(5, ("a", "c"), 2).expired().status()
    assert (first["code"], first["reason"], first["metadata"]) == (410, "Expired", {})
    assert first["message"] == "The resourceVersion for the provided list is too old."
    assert (later["code"], later["reason"]) == (410, "Expired")
    assert later["message"].startswith(
        "The provided continue parameter is too old to display a consistent list result."
    )
    assert read_continue(later["metadata"]["continue"]) == (LATEST, ("a", "c"))
