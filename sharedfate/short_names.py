"""The plugin's fixtures without their prefix, for a repository that asks for them in its top conftest.py:

pytest_plugins = ["sharedfate.short_names"]
"""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def cluster(chaos_cluster: Any) -> Any:
    """Return `chaos_cluster`."""
    return chaos_cluster


@pytest.fixture
def faults(chaos_faults: Any) -> Any:
    """Return `chaos_faults`."""
    return chaos_faults


@pytest.fixture
def load(chaos_load: Any) -> Any:
    """Return `chaos_load`."""
    return chaos_load


@pytest.fixture
def mesh(chaos_mesh: Any) -> Any:
    """Return `chaos_mesh`."""
    return chaos_mesh


@pytest.fixture
def tenants(chaos_tenants: Any) -> Any:
    """Return `chaos_tenants`."""
    return chaos_tenants


@pytest.fixture
def new_trial(chaos_new_trial: Any) -> Any:
    """Return `chaos_new_trial`."""
    return chaos_new_trial


@pytest.fixture
def trial(chaos_trial: Any) -> Any:
    """Return `chaos_trial`."""
    return chaos_trial


@pytest.fixture
def verdict(chaos_verdict: Any) -> Any:
    """Return `chaos_verdict`."""
    return chaos_verdict
