"""A mesh that says it has sidecars and has one proxy a node is seen through: by who carries traffic, and by who holds
keys.
"""

from __future__ import annotations

import os

import pytest

from chaos.cluster.providers import open_cluster
from chaos.engine.features.context import check_context
from chaos.engine.features.identities import check_identities
from chaos.engine.features.paths import check_paths
from chaos.engine.features.tls_on_wire import check_tls_on_wire
from chaos.mesh import manifests
from chaos.verdict import Verdict
from tests.wrong_meshes import SecretlySharedSidecar

pytestmark = [pytest.mark.privileged, pytest.mark.slow]


def test_a_sidecar_that_is_secretly_shared_is_caught() -> None:
    with open_cluster("embedded", name=f"msecret{os.getpid()}", nodes=2) as cluster:
        mesh = SecretlySharedSidecar(cluster, "sidecar", run="feat-secret")
        mesh.start(manifests.reference(*sorted(n["metadata"]["name"] for n in cluster.list("Node"))))
        with check_context(mesh) as found:
            (traffic,) = check_paths(found)
            _, memory = check_identities(found)
            tls = check_tls_on_wire(found)
    assert traffic.verdict is Verdict.FAIL, traffic
    assert memory.verdict is Verdict.FAIL, memory
    assert {one.verdict for one in tls} == {Verdict.PASS}  # it does everything else right
