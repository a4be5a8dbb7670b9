"""The fixtures of the plugin. Every name begins with `chaos_`: they are in every session where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from chaos.plugin.options import progress_of, settings_of

if TYPE_CHECKING:
    from chaos.engine.deployment import Deployment
    from chaos.engine.run import Run
    from chaos.engine.topology import TenantLoad
    from chaos.engine.trial import Trial
    from chaos.faults.session import Chaos
    from chaos.history.result import TrialResult
    from chaos.kube.client import Cluster
    from chaos.mesh.handle import MeshHandle

RUN: pytest.StashKey[Run] = pytest.StashKey()


@pytest.fixture(scope="session")
def chaos_run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The run: its cluster, its directory, its reports. One a session."""
    from chaos.engine.run import Run, unfit
    from chaos.errors import EnvironmentUnfit

    run = Run(settings_of(request.config), progress=progress_of(request.config))
    try:
        run.__enter__()
    except BaseException as error:
        request.config.stash[RUN] = run
        if (why := unfit(error)) is None:
            raise
        request.session.shouldstop = f"sharedfate: {why}"  # the next test would need the same cluster
        raise EnvironmentUnfit(why) from error
    request.config.stash[RUN] = run  # reports are written before it is left, when a signal ends the session
    try:
        yield run
    finally:
        if request.session.testsfailed:
            run.cluster.failures.append(f"{request.session.testsfailed} tests failed")
        run.__exit__(None, None, None)


@pytest.fixture
def chaos_faults(chaos_run: Run) -> Iterator[Chaos]:
    """Faults by hand in the run's cluster:
    `with chaos_faults.inject(Kill(), chaos_faults.one(layer="l7", tenant="a")) as receipt:`.
    """
    from chaos.faults.session import Chaos

    made = Chaos(chaos_run.cluster, run=chaos_run.id, seed=chaos_run.seed.child("chaos").number())
    yield made
    made.undo_all()


@pytest.fixture
def chaos_cluster(chaos_run: Run) -> Cluster:
    """The Kubernetes client of the run's cluster: list, get, apply, delete, wait, logs, exec."""
    return chaos_run.cluster


@pytest.fixture
def chaos_load(chaos_run: Run, chaos_mode: str) -> Deployment:
    """The mode's deployment with its load: `tenants`, `flows`, `pause`, `restore_load`, `streams`, `one_more_server`,
    `placement`.
    """
    return chaos_run.deployment(chaos_mode)


@pytest.fixture
def chaos_mesh(chaos_load: Deployment) -> MeshHandle:
    """The mesh in that mode: `placement`, and `inject` and `deploy` for manifests of your own. What only the reference
    mesh offers (`status`, `set_features`) is in `chaos_load.reference_mesh`.
    """
    return chaos_load.mesh


@pytest.fixture
def chaos_tenants(chaos_load: Deployment) -> tuple[TenantLoad, ...]:
    """The reference tenants: each a client that calls its own server; see `chaos.engine.topology` for who lies
    where.
    """
    return chaos_load.tenants


@pytest.fixture
def chaos_verdict(chaos_trial: Trial) -> Callable[[], TrialResult]:
    """Judges the trial: the result, or a failure with its sentence, its numbers and the path of the history."""
    return chaos_trial.conclude


@pytest.fixture
def chaos_trial(request: pytest.FixtureRequest, chaos_run: Run, chaos_mode: str) -> Iterator[Trial]:
    """A trial of your own in the mode: baseline, fault, looks, judgement. It is named after the test."""
    made = chaos_run.trial(chaos_mode, request.node.originalname or request.node.name)
    try:
        yield made
    finally:
        made.close()
