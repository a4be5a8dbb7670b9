"""Top of the checkout's tests.

Privileged tests fail in CI, and skip elsewhere, when this machine cannot run them. Live tests (marked `live`, and the
privileged ones) watch real processes against the clock. Each is tried once more when it fails, and is then listed as
RERUN in the summary: a machine that stalls for seconds must not turn the gate red, and a test that needs its second try
more than once in a while has a defect to be found. Tests of pure functions get one try, and so does everything on a
cluster that is itself tried (SHAREDFATE_TEST_CLUSTER).
"""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tries_again = not os.environ.get("SHAREDFATE_TEST_CLUSTER")
    able = os.geteuid() == 0 or os.environ.get("CI")
    for item in items:
        privileged = item.get_closest_marker("privileged")
        if tries_again and (privileged or item.get_closest_marker("live")):
            item.add_marker(pytest.mark.flaky(reruns=1))
        if privileged and not able:
            item.add_marker(pytest.mark.skip(reason="needs root: run as root, or set CI to see it fail"))
