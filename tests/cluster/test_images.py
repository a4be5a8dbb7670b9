"""The image's commands, engine by engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.cluster.commands import Done
from chaos.cluster.images import (
    Build,
    ContainerEngine,
    build_and_save,
    find_engine,
    plan_build,
    plan_load,
    plan_push,
    plan_save,
)
from chaos.errors import EnvironmentUnfit, Misuse
from chaos.names import IMAGE, full_image_name
from tests.cluster.exchanges import Recorded

NAME, TAR = IMAGE, Path("image.tar")


def lines(commands: list[tuple[str, ...]]) -> list[str]:
    return [" ".join(command) for command in commands]


@pytest.mark.parametrize(
    ("engine", "options"), [("docker", ""), ("podman", "--pull-never "), ("buildah", "--pull-never ")]
)
def test_a_build_without_pulling(engine: str, options: str) -> None:
    build = Build(NAME, Path("/src"), {"PYTHON_IMAGE": "localhost/base"}, pull=False)
    assert " ".join(plan_build(ContainerEngine(engine), build)) == (
        f"{engine} build --build-arg=PYTHON_IMAGE=localhost/base {options}--tag {NAME} --file /src/Dockerfile /src"
    )


def test_isolation_is_buildahs_alone() -> None:
    build = Build(NAME, Path("/src"), isolation="chroot", network="host")
    assert plan_build(ContainerEngine.BUILDAH, build)[2:4] == ("--isolation=chroot", "--network=host")
    with pytest.raises(Misuse, match="buildah's"):
        plan_build(ContainerEngine.DOCKER, build)


def test_saving_loading_and_pushing() -> None:
    assert lines(plan_save(ContainerEngine.DOCKER, NAME, TAR)) == [f"docker save --output image.tar {NAME}"]
    full = full_image_name(NAME)  # containerd takes an archive's name as it is, and a kubelet asks for the whole
    assert lines(plan_save(ContainerEngine.PODMAN, NAME, TAR)) == [
        f"podman tag {NAME} {full}",
        f"podman save --format oci-archive --output image.tar {full}",
    ]
    assert lines(plan_save(ContainerEngine.BUILDAH, NAME, TAR)) == [f"buildah push {NAME} oci-archive:image.tar:{full}"]
    assert lines(plan_load(ContainerEngine.DOCKER, TAR)) == ["docker load --input image.tar"]
    assert lines(plan_load(ContainerEngine.BUILDAH, TAR)) == ["buildah pull oci-archive:image.tar"]
    to = "registry.example:5000/mesh/sharedfate:1"
    assert lines(plan_push(ContainerEngine.DOCKER, NAME, to)) == [f"docker tag {NAME} {to}", f"docker push {to}"]
    assert lines(plan_push(ContainerEngine.PODMAN, NAME, to)) == [f"podman push {NAME} docker://{to}"]
    assert lines(plan_push(ContainerEngine.BUILDAH, NAME, to)) == [f"buildah push {NAME} docker://{to}"]


@pytest.mark.parametrize("to", ["sharedfate:1", "someone/sharedfate:1"])
def test_a_push_that_would_go_to_a_public_registry_by_default_is_refused(to: str) -> None:
    with pytest.raises(Misuse, match="REGISTRY/NAME:TAG"):
        plan_push(ContainerEngine.DOCKER, NAME, to)


def test_the_first_installed_engine_is_taken_and_a_missing_one_is_named() -> None:
    assert find_engine(Recorded("buildah", "podman")) is ContainerEngine.PODMAN
    assert find_engine(Recorded("buildah", "podman"), "buildah") is ContainerEngine.BUILDAH
    with pytest.raises(EnvironmentUnfit, match="none of docker, podman, buildah"):
        find_engine(Recorded())
    with pytest.raises(EnvironmentUnfit, match="docker is not on PATH"):
        find_engine(Recorded("podman"), "docker")
    with pytest.raises(Misuse, match="unknown engine 'dokcer': known are"):
        find_engine(Recorded("docker"), "dokcer")


def test_a_build_that_fails_saves_nothing(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    runner = Recorded("podman", answers={"podman build": Done(125, stderr="Error: no such base")})
    with pytest.raises(EnvironmentUnfit, match="no such base"):
        build_and_save(runner, ContainerEngine.PODMAN, Build(NAME, tmp_path), tmp_path / "image.tar")
    assert len(runner.calls) == 1


def test_an_installation_without_a_checkout_is_told_to_take_an_archive(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"no Dockerfile there.*archive"):
        build_and_save(Recorded("podman"), ContainerEngine.PODMAN, Build(NAME, tmp_path), TAR)
