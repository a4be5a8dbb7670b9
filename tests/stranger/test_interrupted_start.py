"""A start that is ended at any of its API calls leaves a cluster as it was before: refused, answered 500, or never."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from chaos.engine.progress import Silent
from chaos.engine.run import Run
from chaos.engine.scenario import NotApplicable
from chaos.engine.settings import Settings
from chaos.errors import EnvironmentUnfit, NotReady
from chaos.kube.client import Cluster
from tests.kube.weather import before
from tests.stranger.clusters import Stranger, stranger
from tests.stranger.gates import Gate
from tests.stranger.test_odd_clusters import left

pytestmark = pytest.mark.privileged

MODE = "node"
FATES = ("broken", "lost_before", "lost_after", "hung")
# What a start writes and reads, a pattern of "METHOD path" each; an unknown one is found by the slow test.
CALLS = (
    r"POST .*/namespaces$",
    r"POST .*/namespaces/sharedfate-system/secrets",
    r"POST .*/namespaces/sharedfate-system/configmaps",
    r"POST .*/clusterroles$",
    r"POST .*/clusterrolebindings$",
    r"POST .*/namespaces/[^/]+/roles$",
    r"POST .*/namespaces/[^/]+/rolebindings$",
    r"POST .*/serviceaccounts$",
    r"POST .*/services$",
    r"POST .*/daemonsets$",
    r"POST .*/namespaces/tenant-b/deployments$",
    r"GET .*/nodes",
    r"GET .*/daemonsets/",
    r"GET .*/deployments/",
    r"GET /api/v1/pods",
    r"POST .*/proxy/flows",
)
QUICK = (CALLS[0], CALLS[4], CALLS[10])  # with a fate each; what hangs is waited for


class Mended(Run):
    """A run whose API server is well again as soon as its start has failed, and which is patient from then on."""

    gate: Gate

    def _end_after(self, error: BaseException) -> None:
        self.gate.shut = {}
        self.gate.over.set()
        patience, self.cluster.patience = self.cluster.patience, 30.0
        try:
            super()._end_after(error)
        finally:
            self.cluster.patience = patience


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    with stranger(tmp_path_factory.mktemp("stranger")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def gate(theirs: Stranger) -> Gate:
    return Gate(theirs.admin)


@pytest.fixture(scope="module")
def run(gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mended]:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch, before(gate, folder) as (_, kubeconfig):
        patch.setenv("KUBECONFIG", str(kubeconfig))
        patch.setitem(Cluster.__init__.__kwdefaults__ or {}, "patience", 1.0)
        patch.setitem(Cluster.open.__kwdefaults__ or {}, "timeout", 2.0)
        patch.setitem(Cluster.request.__kwdefaults__ or {}, "timeout", 2.0)
        patch.setitem(Cluster.pod_http.__kwdefaults__ or {}, "timeout", 2.0)
        settings = Settings(cluster="context:w", out=folder / "out", modes=(MODE,), seed=1)
        mended = Mended(settings, progress=Silent())
        mended.gate = gate
        with mended:
            yield mended


def ended_at(run: Mended, gate: Gate, theirs: Stranger, call: str, fate: str) -> None:
    run._undeployable.clear()
    gate.seen.clear()
    gate.over.clear()
    gate.shut = {call: fate}
    said = ""
    try:
        run.deployment(MODE)
    except EnvironmentUnfit as error:
        said = str(error)
    gate.over.set()
    if said:
        assert said.startswith(f"mode {MODE} cannot be deployed here: ")
        assert "\n" not in said
        with pytest.raises(NotApplicable, match="is not tried again"):
            run.deployment(MODE)
    else:  # an answer that is lost is asked for again
        assert fate == "lost_after"
        gate.shut = {}
        run._end()
    assert gate.seen[fate], f"{call} is not called"
    with contextlib.suppress(NotReady):  # what is left then is said below
        theirs.admin.wait("nothing is left", lambda: left(theirs.admin) == [], seconds=30)
    assert left(theirs.admin) == [], f"after {call} was {fate}, and it said: {said}"


@pytest.mark.parametrize(("call", "fate"), list(zip(QUICK, FATES[:-1], strict=True)))
def test_a_start_that_ends_at_a_call_leaves_nothing(
    run: Mended, gate: Gate, theirs: Stranger, call: str, fate: str
) -> None:
    ended_at(run, gate, theirs, call, fate)


@pytest.mark.slow
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("call", CALLS)
def test_a_start_that_ends_at_any_call_leaves_nothing(
    run: Mended, gate: Gate, theirs: Stranger, call: str, fate: str
) -> None:
    ended_at(run, gate, theirs, call, fate)


@pytest.mark.slow
def test_every_call_of_a_start_is_on_the_list(run: Mended, gate: Gate, theirs: Stranger) -> None:
    run._undeployable.clear()
    heard: set[str] = set()
    plain = gate.fate
    gate.fate = lambda method, path: (heard.add(f"{method} {path.partition('?')[0]}"), plain(method, path))[1]  # type: ignore[method-assign, func-returns-value]
    try:
        run.deployment(MODE)
    finally:
        gate.fate = plain  # type: ignore[method-assign]
    writes = {call for call in heard if call.startswith(("POST", "PATCH")) and "/proxy/" not in call}
    assert writes
    assert {call for call in writes if not any(re.search(known, call) for known in CALLS)} == set()
    run._end()
    assert left(theirs.admin) == []
