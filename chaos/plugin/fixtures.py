"""The fixtures of the plugin. Every name begins with `chaos_`: they are in every session where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from chaos.plugin import xdist
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

    settings = settings_of(request.config)
    xdist.claim(request.config, settings)
    run = Run(settings, progress=progress_of(request.config))
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


def brings_own(names: Iterable[str]) -> bool:
    """Whether a test brings applications of its own, by the fixtures that it asks for: a mesh or its load, and not the
    reference tenants. Pure.
    """
    asked = set(names)
    return bool(asked & {"chaos_mesh", "chaos_load"}) and "chaos_tenants" not in asked


def _own(request: pytest.FixtureRequest, run: Run) -> bool:
    return run.settings.target is None and brings_own(request.fixturenames)


@pytest.fixture
def chaos_load(request: pytest.FixtureRequest, chaos_run: Run, chaos_mode: str) -> Iterator[Deployment]:
    """The mode's deployment with its load. Without `chaos_tenants` it holds the mesh alone, for one test: `add` loads a
    call of applications that `chaos_mesh.deploy` brought, `proxy_serving` finds their proxies. With them: `tenants`,
    `flows`, `pause`, `restore_load`, `streams`, `one_more_server`, `placement`.
    """
    own = _own(request, chaos_run)
    yield chaos_run.deployment(chaos_mode, own=own)
    if own:
        chaos_run.discard()


@pytest.fixture
def chaos_mesh(chaos_load: Deployment) -> MeshHandle:
    """The mesh in that mode: `deploy` for manifests of your own, `inject`, `placement`; of the reference mesh also
    `status` and `set_features`.
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
def chaos_new_trial(request: pytest.FixtureRequest, chaos_run: Run, chaos_mode: str) -> Iterator[Callable[[], Trial]]:
    """Begins a trial of your own in the mode when it is called: once its load was added. It is named after the test."""
    from chaos.history.spans import TRIAL, SpanKind

    own = _own(request, chaos_run)
    if own:
        request.getfixturevalue("chaos_load")  # outlives the trial
    with ExitStack() as made:

        def begin() -> Trial:
            name = getattr(request.node, "originalname", None) or request.node.name
            made.enter_context(chaos_run.spans.span(TRIAL, SpanKind.WORK, mode=chaos_mode, scenario=name))
            trial = chaos_run.trial(chaos_mode, name, own=own)
            made.callback(trial.close)
            return trial

        yield begin


@pytest.fixture
def chaos_trial(chaos_new_trial: Callable[[], Trial]) -> Trial:
    """A trial of your own in the mode: baseline, fault, looks, judgement. It is named after the test."""
    return chaos_new_trial()
