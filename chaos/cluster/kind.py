"""A kind cluster of our own: created, loaded with the image, used, its logs taken on failure, deleted.

Every command goes through the one seam, so that the exact exchanges are tested where no Docker is. The name comes from
the option (`kind:NAME`), so that two live side by side; its kubeconfig is a file of its own, never the user's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from chaos.cluster.commands import Runner, check_output
from chaos.cluster.images import Build, build_and_save, find_engine
from chaos.errors import EnvironmentUnfit, Misuse, SharedfateError
from chaos.names import IMAGE
from chaos.resources import build_context

# Pinned by digest, as kind's own release 0.33 has it: the tag alone may be pushed again.
NODE_IMAGE: Final = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
DEFAULT_NAME: Final = "sharedfate"
CREATE_SECONDS: Final = 600.0
LOAD_SECONDS: Final = 600.0
ALREADY: Final = "already exist"  # what kind and k3d say of a name that is taken
ONE_PLATFORM: Final = (
    "an archive of one platform is needed: docker save --platform linux/amd64 (or the nodes' own), or "
    "`sharedfate image build` on such a machine"
)


@dataclass(frozen=True, slots=True)
class KindOptions:
    """How a kind cluster is made.

    Attributes:
        node_image: of its nodes; another Kubernetes version is another image. k3d takes its own default for kind's.
        archive: of our image; None: it is built from this checkout.
        workers: beside one control-plane node.
        engine: what builds the image; "" takes what is installed.
        logs: where `kind export logs` writes when something failed.
    """

    node_image: str = NODE_IMAGE
    archive: Path | None = None
    workers: int = 2
    engine: str = ""
    logs: Path | None = None


def plan_config(workers: int, *, cgroup_v1: bool = False) -> dict[str, object]:
    """kind's configuration: https://kind.sigs.k8s.io/docs/user/configuration.

    Args:
        cgroup_v1: the machine has control groups of version 1, which kubelets since 1.35 refuse unless told otherwise.
    """
    config: dict[str, object] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane"}, *({"role": "worker"} for _ in range(workers))],
    }
    if cgroup_v1:
        config["kubeadmConfigPatches"] = ["kind: KubeletConfiguration\nfailCgroupV1: false\n"]
    return config


def has_cgroup_v1(mount: Path = Path("/sys/fs/cgroup")) -> bool:
    """Whether this machine's control groups are of version 1 (or hybrid)."""
    return mount.is_dir() and not (mount / "cgroup.controllers").exists()


def plan_create(name: str, options: KindOptions, *, config: Path, kubeconfig: Path) -> tuple[str, ...]:
    """The command that creates. `--retain`: a node that failed is kept until its logs are taken."""
    return (
        "kind",
        "create",
        "cluster",
        "--name",
        name,
        "--image",
        options.node_image,
        "--config",
        str(config),
        "--kubeconfig",
        str(kubeconfig),
        "--wait",
        "180s",
        "--retain",
    )


def plan_delete(name: str, kubeconfig: Path) -> tuple[str, ...]:
    """The command that deletes. The kubeconfig is ours: without it kind edits the user's own, to take an entry out."""
    return ("kind", "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig))


def cluster_names(runner: Runner) -> list[str]:
    """The names of the kind clusters on this machine."""
    return check_output(runner, "kind", "get", "clusters", environment=plan_environment(runner)).split()


def delete_cluster(runner: Runner, name: str) -> bool:
    """Delete the kind cluster of that name; False when there is none."""
    environment = plan_environment(runner)
    if name not in cluster_names(runner):
        return False
    with tempfile.TemporaryDirectory(prefix="sharedfate-kind-") as scratch:
        check_output(runner, *plan_delete(name, Path(scratch) / "kubeconfig"), seconds=120, environment=environment)
    return True


def plan_environment(runner: Runner) -> Mapping[str, str]:
    """What kind is told of the container engine. Raises EnvironmentUnfit when kind or an engine is missing."""
    if runner.which("kind") is None:
        raise EnvironmentUnfit(
            "kind is not on PATH: install it (https://kind.sigs.k8s.io), or take the cluster embedded"
        )
    if runner.which("docker") is not None:
        return {}
    if runner.which("podman") is not None:
        return {"KIND_EXPERIMENTAL_PROVIDER": "podman"}
    raise EnvironmentUnfit("kind needs docker or podman on PATH: install one, or take the cluster embedded")


@contextmanager
def kind_cluster(
    runner: Runner, name: str, options: KindOptions, *, keep: bool, failed: list[str] | None = None
) -> Iterator[Path]:
    """Yield the kubeconfig of a kind cluster of that name, with our image in its nodes; delete it afterwards, unless
    `keep`.

    Args:
        keep: leave it, and take one of that name that already exists.
        failed: when anything is in it at the end, the logs are taken as if the block had raised.

    Raises EnvironmentUnfit when something is missing and Misuse when the name is taken, before anything is made.
    """
    environment = plan_environment(runner)
    there = check_output(runner, "kind", "get", "clusters", environment=environment).split()
    if name in there and not keep:
        raise Misuse(
            f"a kind cluster named {name!r} already exists: add --chaos-keep to use it, choose kind:OTHER, or end it "
            f"with `kind delete cluster --name {name}`"
        )
    with tempfile.TemporaryDirectory(prefix="sharedfate-kind-") as scratch:
        folder = Path(scratch)
        archive = image_archive(
            runner, options, folder
        )  # first, because it is what fails most often, and nothing is made yet
        kubeconfig = folder / "kubeconfig"
        usable = foreign = False
        try:
            if name in there:
                kubeconfig.write_text(
                    check_output(runner, "kind", "get", "kubeconfig", "--name", name, environment=environment)
                )
            else:
                config = folder / "kind.yaml"
                planned = plan_config(options.workers, cgroup_v1=has_cgroup_v1())
                config.write_text(yaml.safe_dump(planned, sort_keys=False))
                create = plan_create(name, options, config=config, kubeconfig=kubeconfig)
                try:
                    check_output(runner, *create, seconds=CREATE_SECONDS, environment=environment)
                except EnvironmentUnfit as error:
                    foreign = ALREADY in str(error)  # made by somebody else since we looked: not ours to delete
                    raise
            load = ("kind", "load", "image-archive", str(archive), "--name", name)
            try:
                check_output(runner, *load, seconds=LOAD_SECONDS, environment=environment)
            except EnvironmentUnfit as error:
                if "digest" in str(error):  # containerd looks for the platforms that the archive names and lacks
                    raise EnvironmentUnfit(f"{error}: {ONE_PLATFORM}") from error
                raise
            usable = True
            yield kubeconfig
        except BaseException:
            if not foreign:
                _take_logs(runner, name, options, environment)
            raise
        else:
            if failed:
                _take_logs(runner, name, options, environment)
        finally:
            if not foreign and (not keep or not (usable or name in there)):  # what is half made is of no use to anybody
                check_output(runner, *plan_delete(name, kubeconfig), seconds=120, environment=environment)


def image_archive(runner: Runner, options: KindOptions, folder: Path) -> Path:
    """The archive of our image that the options name, or one that is built into the folder, from the sources
    that this package came with.
    """
    if options.archive is None:
        built = folder / "image.tar"
        build_and_save(runner, find_engine(runner, options.engine), Build(IMAGE, build_context(folder)), built)
        return built
    if not options.archive.is_file():
        raise Misuse(f"{options.archive}: no image archive there")
    return options.archive


def _take_logs(runner: Runner, name: str, options: KindOptions, environment: Mapping[str, str]) -> None:
    """Take the logs as far as possible: an error here must not hide the failure itself."""
    if options.logs is not None:
        with suppress(SharedfateError):
            check_output(
                runner,
                "kind",
                "export",
                "logs",
                str(options.logs),
                "--name",
                name,
                seconds=120,
                environment=environment,
            )
