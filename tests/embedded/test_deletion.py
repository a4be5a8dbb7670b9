"""Grace periods of any length end in a date."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded.clock import LONGEST, parse_time
from chaos.embedded.deletion import delete
from chaos.embedded.resources import POD
from chaos.embedded.store import Store


@pytest.mark.parametrize(
    ("own", "asked", "seconds"),
    [
        (30, None, 30),
        (-1, None, 1),
        (30, 5, 5),
        (2**62, None, LONGEST),
        (10**12, None, LONGEST),
        (30, 2**63 - 1, LONGEST),
        (2**62, 5, 5),
    ],
)
def test_a_pod_can_be_deleted_whatever_its_grace_period(own: int, asked: int | None, seconds: int) -> None:
    store = Store()
    spec: dict[str, Any] = {"nodeName": "n", "terminationGracePeriodSeconds": own, "containers": []}
    store.create(POD, {"metadata": {"name": "p", "namespace": "a"}, "spec": spec})
    pod, gone = delete(store, POD, "a", "p", grace=asked)
    assert not gone
    assert pod["metadata"]["deletionGracePeriodSeconds"] == seconds
    assert parse_time(pod["metadata"]["deletionTimestamp"]).tzinfo is not None
