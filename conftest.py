"""Top of the checkout's tests.

Privileged tests fail in CI, and skip elsewhere, when this machine cannot run them. Live tests, those that watch real
processes against the clock, are tried once more when they fail, and are then listed as RERUN in the summary: a machine
that stalls for seconds must not turn the gate red, and a test that needs its second try more than once in a while has a
defect to be found. Tests of pure functions get one try.
"""

from __future__ import annotations

import os

import pytest

# Fixtures that start processes of their own.
LIVE = {"programs", "cluster", "world", "mesh", "proxies"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    able = os.geteuid() == 0 or os.environ.get("CI")
    for item in items:
        privileged = item.get_closest_marker("privileged")
        if privileged or LIVE & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if privileged and not able:
            item.add_marker(pytest.mark.skip(reason="needs root: run as root, or set CI to see it fail"))
