"""Applications of your own under load, in a mode of the mesh: `pytest examples/test_my_app.py --chaos-modes=node`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sharedfate import FaultShape, Pause, break_and_watch, break_proxy, container_of

MANIFESTS = Path(__file__).with_name("shop.yaml")


@pytest.fixture
def shop(chaos_mesh, chaos_load):
    """The shop, with its call loaded: a hundred requests a second from beside the caller."""
    chaos_mesh.deploy(list(yaml.safe_load_all(MANIFESTS.read_text())))
    chaos_load.add("shop/caller", "shop/web", reach="web:80", rate=100)
    return chaos_load


@pytest.mark.chaos_modes("sidecar", "node")
def test_a_proxy_that_hangs_hurts_the_shop_that_it_serves(shop, chaos_trial, chaos_verdict):
    break_proxy(chaos_trial, Pause(), shop.proxy_serving("shop/web"))
    assert [flow.split("/")[0] for flow in chaos_verdict().observed["hurt"]] == ["shop"]


@pytest.mark.chaos_modes("node")
def test_a_claim_that_is_wrong_is_refuted(shop, chaos_new_trial):
    for _ in range(2):  # a machine that was busy leaves a trial open: it is taken once more
        trial = chaos_new_trial()
        trial.expect_fate_of(shape=FaultShape.HELD)  # of no proxy: nobody may be hurt
        break_and_watch(trial, Pause(), container_of(trial.cluster, shop.proxy_serving("shop/web")))
        result = trial.finish()
        if result.verdict != "inconclusive":
            break
    assert result.verdict == "fail", result.reason
    assert "though none of its pairs is behind the target" in result.reason
