"""The k3d provider's commands: exact argument lists, their order, and what is undone when each of them fails.

No k3d cluster was ever made by these tests: *not yet run*.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.cluster.commands import Done
from chaos.cluster.k3d import k3d_cluster
from chaos.cluster.kind import KindOptions
from chaos.cluster.providers import ClusterSpec, Kind, parse_spec
from chaos.errors import EnvironmentUnfit, Misuse
from tests.cluster.exchanges import Recorded

CREATE = (
    "k3d cluster create a --servers 1 --agents 2 --no-lb --k3s-arg --disable=traefik@server:* "
    "--kubeconfig-update-default=false "
    "--kubeconfig-switch-context=false --wait --timeout 180s"
)
THERE = {"k3d cluster list": Done(0, "a   1/1   2/2   false\n"), "k3d kubeconfig get": Done(0, "apiVersion: v1")}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(b"")
    return path


def use(runner: Recorded, options: KindOptions, *, keep: bool = False) -> list[str]:
    """Enter and leave, and the commands with the temporary folder's name taken out."""
    try:
        with k3d_cluster(runner, "a", options, keep=keep) as kubeconfig:
            assert kubeconfig.is_file()
            runner.calls.append("(used)")
    finally:
        runner.calls = [re.sub(r"/\S*sharedfate-k3d-[^/]+/", "TMP/", call) for call in runner.calls]
    return runner.calls


def test_a_cluster_is_made_loaded_used_and_deleted_in_this_order(archive: Path) -> None:
    assert use(Recorded("k3d", "docker"), KindOptions(archive=archive)) == [
        "k3d cluster list --no-headers",
        CREATE,
        "k3d kubeconfig get a",
        f"k3d image import {archive} --cluster a",
        "(used)",
        "k3d cluster delete a",
    ]


def test_another_image_and_number_of_nodes_can_be_set(archive: Path) -> None:
    calls = use(
        Recorded("k3d", "docker"), KindOptions(archive=archive, node_image="rancher/k3s:v1.33.1-k3s1", workers=3)
    )
    assert "--agents 3 --image rancher/k3s:v1.33.1-k3s1 " in calls[1]


def test_without_an_archive_the_image_is_built_and_saved_before_anything_is_made() -> None:
    calls = use(Recorded("k3d", "docker"), KindOptions())
    assert [call.split(" --")[0] for call in calls[:4]] == [
        "k3d cluster list",
        "docker build",
        "docker save",
        "k3d cluster create a",
    ]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("broken", ["k3d cluster create", "k3d kubeconfig get", "k3d image import"])
def test_what_is_half_made_is_deleted_even_when_it_should_be_kept(archive: Path, broken: str, keep: bool) -> None:
    runner = Recorded("k3d", "docker", answers={broken: Done(1, stderr="FATA[0001] no space left")})
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        use(runner, KindOptions(archive=archive), keep=keep)
    assert runner.calls[-1] == "k3d cluster delete a"


def test_a_kept_cluster_is_used_again_and_a_taken_name_is_refused_otherwise(archive: Path) -> None:
    assert use(Recorded("k3d", "docker", answers=THERE), KindOptions(archive=archive), keep=True) == [
        "k3d cluster list --no-headers",
        "k3d kubeconfig get a",
        f"k3d image import {archive} --cluster a",
        "(used)",
    ]
    runner = Recorded("k3d", "docker", answers=THERE)
    with pytest.raises(Misuse, match=r"already exists: add --chaos-keep.*k3d:OTHER.*k3d cluster delete a"):
        use(runner, KindOptions(archive=archive))
    assert runner.calls == ["k3d cluster list --no-headers"]


def test_what_is_missing_is_named_and_the_option_is_parsed() -> None:
    with pytest.raises(EnvironmentUnfit, match="docker is not on PATH"):
        use(Recorded("k3d"), KindOptions())
    assert parse_spec("k3d") == ClusterSpec(Kind.K3D, "sharedfate")
    assert parse_spec("k3d:b") == ClusterSpec(Kind.K3D, "b")
