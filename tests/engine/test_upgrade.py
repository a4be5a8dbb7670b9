"""What an upgrade replaced, and which streams it cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chaos.engine.upgrade import application_restarts, plan_roll_out, streams_cut
from chaos.external import descriptions
from chaos.faults.upgrade import Upgrade
from chaos.history.model import SAMPLE, Flag, Outcome
from chaos.kube.objects import ContainerSeen
from chaos.mesh.modes import mode_named
from chaos.model.modes import Scope
from chaos.model.placement import Placement, Pod, Proxy


def test_replaced_applications_are_told_from_replaced_proxies() -> None:
    def state(namespace: str, container: str, identifier: str) -> ContainerSeen:
        return ContainerSeen(
            namespace, "pod", "u", "n1", container, False, "running", "", None, None, 0, identifier, True, "", None
        )

    before = {
        ("u1", "server"): state("tenant-a", "server", "1"),
        ("u1", "proxy"): state("tenant-a", "proxy", "2"),
        ("u2", "client"): state("tenant-a", "client", "3"),
        ("u3", "proxy"): state("sharedfate-system", "proxy", "4"),
        ("u1", "capture"): replace(state("tenant-a", "capture", "5"), init=True),
    }
    after = {("u2", "client"): state("tenant-a", "client", "3")}
    pods = tuple(
        Pod("tenant-a", "pod", uid, "n1", "a", role, role, "default")
        for uid, role in (("u1", "server"), ("u2", "client"))
    )
    proxies = tuple(
        Proxy("tenant-a", "pod", "proxy", uid, "n1", frozenset(), Scope.POD, uid, "default") for uid in ("u1", "u3")
    )
    placement = Placement(mode_named("sidecar"), pods, proxies, ())
    assert application_restarts(placement, before, after) == {("u1", "server")}
    assert application_restarts(placement, before, before) == set()


def test_a_stream_counts_as_cut_when_a_new_connection_answers() -> None:
    samples = np.zeros(4, SAMPLE)
    samples["flags"] = [Flag.NEW_CONNECTION, 0, Flag.NEW_CONNECTION, Flag.NEW_CONNECTION | Flag.LATE]
    samples["outcome"] = [Outcome.OK, Outcome.OK, Outcome.FAILED, Outcome.OK]
    assert streams_cut(samples) == 2


@pytest.mark.parametrize(
    ("place", "container", "annotation", "planned"),
    [
        ("containers", "ztunnel", "", Upgrade(container="ztunnel", image="v2")),  # a DaemonSet, a waypoint's Deployment
        ("initContainers", "ztunnel", "", Upgrade(container="ztunnel", image="v2")),  # a native sidecar
        ("containers", "app", "mesh/version", Upgrade(annotations={"mesh/version": "v2"})),  # a webhook adds it
        ("containers", "app", "", None),
    ],
)
def test_another_version_is_an_image_where_the_template_holds_the_proxy_and_else_the_meshs_annotation(
    place: str, container: str, annotation: str, planned: Upgrade | None
) -> None:
    proxy = Proxy("mesh", "z", "ztunnel", "u", "n1", frozenset(), Scope.NODE, "n1", "default")
    template = {"spec": {"containers": [{"name": "x", "image": "v1"}], place: [{"name": container, "image": "v1"}]}}
    assert plan_roll_out(template, proxy, "v2", annotation=annotation) == planned


def test_meshes_whose_webhook_adds_the_proxy_name_the_annotation_that_decides_on_its_version() -> None:
    annotations = {one.name: {rule.version_by for rule in one.rules} - {""} for one in descriptions().values()}
    assert annotations["istio"] == {"sidecar.istio.io/proxyImage"}
    assert annotations["linkerd"] == {"config.linkerd.io/proxy-version"}
