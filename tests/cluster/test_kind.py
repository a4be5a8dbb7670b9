"""The kind provider's commands: exact argument lists, their order, and what is undone when each of them fails.

No kind cluster was ever made by these tests: *not yet run on kind*.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.cluster.commands import Done, Shell, check_output
from chaos.cluster.kind import NODE_IMAGE, KindOptions, has_cgroup_v1, kind_cluster, plan_config, plan_environment
from chaos.errors import EnvironmentUnfit, Misuse
from tests.cluster.exchanges import Recorded


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(b"")
    return path


def use(
    runner: Recorded, options: KindOptions, *, name: str = "a", keep: bool = False, failed: list[str] | None = None
) -> list[str]:
    """Enter and leave, and the commands with the temporary folder's name taken out."""
    try:
        with kind_cluster(runner, name, options, keep=keep, failed=failed) as kubeconfig:
            assert kubeconfig.name == "kubeconfig"
            runner.calls.append("(used)")
    finally:
        runner.calls = told(runner)
    return runner.calls


def told(runner: Recorded) -> list[str]:
    """The commands with the temporary folder's name taken out."""
    return [re.sub(r"/\S*sharedfate-kind-[^/]+/", "TMP/", call) for call in runner.calls]


CREATE = (
    f"kind create cluster --name a --image {NODE_IMAGE} --config TMP/kind.yaml "
    "--kubeconfig TMP/kubeconfig --wait 180s --retain"
)


def test_a_cluster_is_made_loaded_used_and_deleted_in_this_order(archive: Path) -> None:
    runner = Recorded("kind", "docker")
    assert use(runner, KindOptions(archive=archive)) == [
        "kind get clusters",
        CREATE,
        f"kind load image-archive {archive} --name a",
        "(used)",
        "kind delete cluster --name a --kubeconfig TMP/kubeconfig",
    ]


def test_the_node_image_can_be_set(archive: Path) -> None:
    calls = use(Recorded("kind", "docker"), KindOptions(archive=archive, node_image="kindest/node:v1.29.0"))
    assert "--image kindest/node:v1.29.0 " in calls[1]


def test_the_default_node_image_is_pinned_by_digest() -> None:
    assert re.fullmatch(r"kindest/node:v1\.\d+\.\d+@sha256:[0-9a-f]{64}", NODE_IMAGE)


def test_without_an_archive_the_image_is_built_and_saved_before_anything_is_made() -> None:
    calls = use(Recorded("kind", "docker"), KindOptions())
    assert [call.split(" --")[0] for call in calls] == [
        "kind get clusters",
        "docker build",
        "docker save",
        "kind create cluster",
        "kind load image-archive TMP/image.tar",
        "(used)",
        "kind delete cluster",
    ]


def test_a_build_that_fails_makes_no_cluster() -> None:
    runner = Recorded("kind", "docker", answers={"docker build": Done(1, stderr="no space left on device")})
    with pytest.raises(EnvironmentUnfit, match="no space left on device"):
        use(runner, KindOptions())
    assert not [call for call in runner.calls if call.startswith(("kind create", "kind delete"))]


@pytest.mark.parametrize("keep", [False, True])
def test_a_cluster_that_cannot_be_made_gives_its_logs_and_is_deleted_even_when_it_should_be_kept(
    archive: Path, keep: bool
) -> None:
    runner = Recorded("kind", "docker", answers={"kind create": Done(1, stderr="ERROR: failed to create cluster")})
    with pytest.raises(EnvironmentUnfit, match="failed to create cluster"):
        use(runner, KindOptions(archive=archive, logs=Path("out/kind-logs")), keep=keep)
    assert runner.calls[2:] == [
        "kind export logs out/kind-logs --name a",
        "kind delete cluster --name a --kubeconfig TMP/kubeconfig",
    ]


def test_an_image_that_cannot_be_loaded_gives_logs_and_deletes(archive: Path) -> None:
    runner = Recorded("kind", "docker", answers={"kind load": Done(1, stderr="no such file")})
    with pytest.raises(EnvironmentUnfit, match="kind load image-archive"):
        use(runner, KindOptions(archive=archive, logs=Path("logs")))
    assert runner.calls[3:] == [
        "kind export logs logs --name a",
        "kind delete cluster --name a --kubeconfig TMP/kubeconfig",
    ]


def test_a_run_that_raises_gives_logs_and_deletes(archive: Path) -> None:
    runner = Recorded("kind", "docker")
    with pytest.raises(ZeroDivisionError):
        with kind_cluster(runner, "a", KindOptions(archive=archive, logs=Path("logs")), keep=False):
            raise ZeroDivisionError
    assert told(runner)[-2:] == [
        "kind export logs logs --name a",
        "kind delete cluster --name a --kubeconfig TMP/kubeconfig",
    ]


def test_a_run_with_failed_trials_gives_logs_and_one_without_does_not(archive: Path) -> None:
    options = KindOptions(archive=archive, logs=Path("logs"))
    assert "kind export logs logs --name a" in use(Recorded("kind", "docker"), options, failed=["1 test failed"])
    assert "kind export logs logs --name a" not in use(Recorded("kind", "docker"), options, failed=[])


def test_logs_that_cannot_be_taken_do_not_hide_the_failure_nor_keep_the_cluster(archive: Path) -> None:
    runner = Recorded(
        "kind", "docker", answers={"kind load": Done(1, stderr="disk full"), "kind export": Done(1, stderr="gone")}
    )
    with pytest.raises(EnvironmentUnfit, match="disk full"):
        use(runner, KindOptions(archive=archive, logs=Path("logs")))
    assert runner.calls[-1] == "kind delete cluster --name a --kubeconfig TMP/kubeconfig"


def test_a_cluster_that_cannot_be_deleted_is_said(archive: Path) -> None:
    runner = Recorded("kind", "docker", answers={"kind delete": Done(1, stderr="Error response from daemon")})
    with pytest.raises(
        EnvironmentUnfit, match=r"kind delete cluster --name a --kubeconfig \S+: exit code 1: Error response"
    ):
        use(runner, KindOptions(archive=archive))


def test_a_kept_cluster_is_used_again_with_a_kubeconfig_of_its_own(archive: Path) -> None:
    runner = Recorded(
        "kind",
        "docker",
        answers={"kind get clusters": Done(0, "a\nb\n"), "kind get kubeconfig": Done(0, "apiVersion: v1")},
    )
    assert use(runner, KindOptions(archive=archive), keep=True) == [
        "kind get clusters",
        "kind get kubeconfig --name a",
        f"kind load image-archive {archive} --name a",
        "(used)",
    ]


def test_a_cluster_that_somebody_else_made_in_the_meantime_is_not_deleted(archive: Path) -> None:
    taken = Done(1, stderr='ERROR: failed to create cluster: node(s) already exist for a cluster with the name "a"')
    runner = Recorded("kind", "docker", answers={"kind create": taken})
    with pytest.raises(EnvironmentUnfit, match="already exist"):
        use(runner, KindOptions(archive=archive, logs=Path("logs")))
    assert [call.split()[1] for call in runner.calls] == ["get", "create"]


def test_an_archive_of_several_platforms_is_refused_with_the_command_that_makes_one(archive: Path) -> None:
    words = "ERROR: failed to load image: ctr: content digest sha256:abc: not found"
    runner = Recorded("kind", "docker", answers={"kind load": Done(1, stderr=words)})
    with pytest.raises(EnvironmentUnfit, match=r"content digest .* docker save --platform linux/amd64"):
        use(runner, KindOptions(archive=archive))


def test_kubelets_are_told_of_control_groups_of_version_1(tmp_path: Path) -> None:
    assert "kubeadmConfigPatches" not in plan_config(2)
    assert plan_config(2, cgroup_v1=True)["kubeadmConfigPatches"] == [
        "kind: KubeletConfiguration\nfailCgroupV1: false\n"
    ]
    assert has_cgroup_v1(tmp_path)
    (tmp_path / "cgroup.controllers").touch()
    assert not has_cgroup_v1(tmp_path)
    assert not has_cgroup_v1(tmp_path / "gone")


def test_a_name_that_is_taken_is_refused_unless_it_is_kept(archive: Path) -> None:
    runner = Recorded("kind", "docker", answers={"kind get clusters": Done(0, "a\n")})
    with pytest.raises(Misuse, match=r"already exists: add --chaos-keep.*kind:OTHER.*kind delete cluster --name a"):
        use(runner, KindOptions(archive=archive))
    assert runner.calls == ["kind get clusters"]


def test_two_live_side_by_side_by_name(archive: Path) -> None:
    runner = Recorded("kind", "docker")
    with kind_cluster(runner, "a", KindOptions(archive=archive), keep=False) as first:
        with kind_cluster(runner, "b", KindOptions(archive=archive), keep=False) as second:
            assert first != second
    assert told(runner)[-2:] == [
        "kind delete cluster --name b --kubeconfig TMP/kubeconfig",
        "kind delete cluster --name a --kubeconfig TMP/kubeconfig",
    ]


def test_podman_is_told_to_kind_in_its_environment(archive: Path) -> None:
    runner = Recorded("kind", "podman")
    use(runner, KindOptions(archive=archive))
    told = {"KIND_EXPERIMENTAL_PROVIDER": "podman"}
    assert all(
        environment == told
        for call, environment in zip(runner.calls, runner.environments, strict=False)
        if call != "(used)"
    )


def test_what_is_missing_is_named_before_anything_is_called() -> None:
    with pytest.raises(EnvironmentUnfit, match="kind is not on PATH"):
        plan_environment(Recorded("docker"))
    with pytest.raises(EnvironmentUnfit, match="docker or podman"):
        plan_environment(Recorded("kind"))


def test_the_configuration_has_a_control_plane_and_the_workers() -> None:
    assert [node["role"] for node in plan_config(2)["nodes"]] == ["control-plane", "worker", "worker"]  # type: ignore[attr-defined]


def test_the_real_seam_gives_output_code_and_last_words() -> None:
    assert check_output(Shell(), "echo", "a b") == "a b\n"
    with pytest.raises(EnvironmentUnfit, match="exit code 3: why"):
        check_output(Shell(), "sh", "-c", "echo why >&2; exit 3")
    with pytest.raises(EnvironmentUnfit, match="no-such-program is not installed"):
        check_output(Shell(), "no-such-program")
    with pytest.raises(EnvironmentUnfit, match=r"not done after 0.1 s"):
        check_output(Shell(), "sleep", "5", seconds=0.1)


def test_the_installed_kind_takes_every_flag_that_is_used() -> None:
    """With the real program, where there is one: its own help knows our flags."""
    shell = Shell()
    if shell.which("kind") is None:
        pytest.skip("kind is not installed")
    for words, flags in (
        ("create cluster", ("--name", "--image", "--config", "--kubeconfig", "--wait", "--retain")),
        ("load image-archive", ("--name",)),
        ("export logs", ("--name",)),
        ("delete cluster", ("--name",)),
        ("get kubeconfig", ("--name",)),
        ("get clusters", ()),
    ):
        text = check_output(shell, "kind", *words.split(), "--help")
        assert all(flag in text for flag in flags), words
