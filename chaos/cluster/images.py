"""The image on its way to a cluster: build, save, load, push, with docker, podman or buildah.

Plans are pure lists of arguments, one engine a row; `apply` runs them through the one seam for commands. The archive is
an OCI archive or docker's own form: kind, containerd (`ctr images import`), CRI-O (`podman load`) and the embedded
cluster take both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from chaos.cluster.commands import Runner, check_output
from chaos.errors import EnvironmentUnfit, Misuse
from chaos.names import IMAGE, full_image_name

BUILD_SECONDS: Final = 1800.0
MOVE_SECONDS: Final = 600.0
Command = tuple[str, ...]


class ContainerEngine(StrEnum):
    """What builds and moves images, in the order in which it is looked for."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"


@dataclass(frozen=True, slots=True)
class Build:
    """What is built.

    Attributes:
        name: registry, repository and tag.
        folder: a checkout, with the Dockerfile.
        arguments: build arguments, as PYTHON_IMAGE.
        isolation: buildah's: `chroot` where namespaces cannot be made inside a container.
        network: `host` where a build has no network of its own.
        pull: False: bases are taken as they are on this machine.
    """

    name: str
    folder: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    isolation: str = ""
    network: str = ""
    pull: bool = True


def plan_build(engine: ContainerEngine, build: Build) -> Command:
    """The command that builds. Raises Misuse for what the engine cannot."""
    if build.isolation and engine is not ContainerEngine.BUILDAH:
        raise Misuse(f"--isolation is buildah's, and the engine is {engine}: leave it out, or add --engine buildah")
    options = [f"--build-arg={name}={value}" for name, value in sorted(build.arguments.items())]
    if build.isolation:
        options.append(f"--isolation={build.isolation}")
    if build.network:
        options.append(f"--network={build.network}")
    if not build.pull:
        options.append("--pull=false" if engine is ContainerEngine.DOCKER else "--pull-never")
    if engine is ContainerEngine.DOCKER and not build.pull:
        options.remove("--pull=false")  # docker takes what is there unless told to pull
    return (
        engine.value,
        "build",
        *options,
        "--tag",
        build.name,
        "--file",
        str(build.folder / "Dockerfile"),
        str(build.folder),
    )


def plan_save(engine: ContainerEngine, name: str, archive: Path) -> list[Command]:
    """The commands that write the image to an archive. Docker's engine writes its own form, the others OCI's, in which
    the name is written out: containerd takes it as it is, and a kubelet asks for `docker.io/...`.
    """
    match engine:
        case ContainerEngine.DOCKER:
            return [("docker", "save", "--output", str(archive), name)]
        case ContainerEngine.PODMAN:
            return [
                ("podman", "tag", name, full_image_name(name)),
                ("podman", "save", "--format", "oci-archive", "--output", str(archive), full_image_name(name)),
            ]
        case ContainerEngine.BUILDAH:
            return [("buildah", "push", name, f"oci-archive:{archive}:{full_image_name(name)}")]


def plan_load(engine: ContainerEngine, archive: Path) -> list[Command]:
    """The commands that bring an archive into the engine's own storage."""
    match engine:
        case ContainerEngine.DOCKER:
            return [("docker", "load", "--input", str(archive))]
        case ContainerEngine.PODMAN:
            return [("podman", "load", "--input", str(archive))]
        case ContainerEngine.BUILDAH:
            return [("buildah", "pull", f"oci-archive:{archive}")]


def plan_push(engine: ContainerEngine, name: str, to: str) -> list[Command]:
    """The commands that push to a registry under another name. Who may push is the engine's business
    (`docker login`).
    """
    if "/" not in to or ("." not in to.partition("/")[0] and ":" not in to.partition("/")[0]):
        raise Misuse(f"push to {to!r}: want REGISTRY/NAME:TAG, e.g. registry.example:5000/{IMAGE.rpartition('/')[2]}")
    match engine:
        case ContainerEngine.DOCKER:
            return [("docker", "tag", name, to), ("docker", "push", to)]
        case ContainerEngine.PODMAN | ContainerEngine.BUILDAH:
            return [(engine.value, "push", name, f"docker://{to}")]


def find_engine(runner: Runner, wanted: str = "") -> ContainerEngine:
    """Return the requested engine, or the first that is installed; EnvironmentUnfit when there is none."""
    if wanted:
        try:
            engine = ContainerEngine(wanted)
        except ValueError:
            raise Misuse(f"unknown engine {wanted!r}: known are {', '.join(ContainerEngine)}") from None
        if runner.which(engine) is None:
            raise EnvironmentUnfit(f"{engine} is not on PATH: install it, or leave --engine out")
        return engine
    for engine in ContainerEngine:
        if runner.which(engine) is not None:
            return engine
    raise EnvironmentUnfit(
        f"none of {', '.join(ContainerEngine)} is installed: install one, or bring an archive that was built elsewhere"
    )


def apply(runner: Runner, commands: Sequence[Command], *, seconds: float = MOVE_SECONDS) -> None:
    """Run the commands in order; the first failure ends it, as EnvironmentUnfit with its last output."""
    for command in commands:
        check_output(runner, *command, seconds=seconds)


def build_and_save(runner: Runner, engine: ContainerEngine, build: Build, archive: Path) -> None:
    """Build, and write the archive. Raises Misuse when the folder is no checkout."""
    if not (build.folder / "Dockerfile").is_file():
        raise Misuse(f"{build.folder}: no Dockerfile there: images are built from a checkout; take an archive instead")
    apply(runner, [plan_build(engine, build)], seconds=BUILD_SECONDS)
    archive.unlink(missing_ok=True)  # buildah adds to an archive that is there
    apply(runner, plan_save(engine, build.name, archive))
