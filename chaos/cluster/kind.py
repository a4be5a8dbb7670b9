"""A kind cluster of our own: created, given the image, handed out, its logs taken on failure, deleted.

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

from chaos.cluster.commands import Runner, must
from chaos.cluster.images import Build, build_and_save, find_engine
from chaos.errors import EnvironmentUnfit, Misuse, SharedfateError
from chaos.names import IMAGE

# Pinned by digest, as kind's own release 0.33 has it: the tag alone may be pushed again.
NODE_IMAGE: Final = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
DEFAULT_NAME: Final = "sharedfate"
CREATE_SECONDS: Final = 600.0
LOAD_SECONDS: Final = 600.0


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


def plan_config(workers: int) -> dict[str, object]:
    """kind's configuration: https://kind.sigs.k8s.io/docs/user/configuration."""
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane"}, *({"role": "worker"} for _ in range(workers))],
    }


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


def delete_cluster(runner: Runner, name: str) -> bool:
    """Delete the kind cluster of that name; False when there is none."""
    environment = plan_environment(runner)
    if name not in must(runner, "kind", "get", "clusters", environment=environment).split():
        return False
    with tempfile.TemporaryDirectory(prefix="sharedfate-kind-") as scratch:
        must(runner, *plan_delete(name, Path(scratch) / "kubeconfig"), seconds=120, environment=environment)
    return True


def plan_environment(runner: Runner) -> Mapping[str, str]:
    """What kind is told of the container engine. Raises EnvironmentUnfit when kind or an engine is missing."""
    if runner.which("kind") is None:
        raise EnvironmentUnfit(
            "kind is not on PATH: install it (https://kind.sigs.k8s.io), or leave --chaos-cluster at embedded"
        )
    if runner.which("docker") is not None:
        return {}
    if runner.which("podman") is not None:
        return {"KIND_EXPERIMENTAL_PROVIDER": "podman"}
    raise EnvironmentUnfit("kind needs docker or podman on PATH: install one, or leave --chaos-cluster at embedded")


@contextmanager
def kind_cluster(
    runner: Runner, name: str, options: KindOptions, *, keep: bool, failed: list[str] | None = None
) -> Iterator[Path]:
    """The kubeconfig of a kind cluster of that name, with our image in its nodes; gone afterwards, unless `keep`.

    Args:
        keep: leave it, and take one of that name that is there already.
        failed: when anything is in it at the end, the logs are taken as if the block had raised.

    Raises EnvironmentUnfit when something is missing and Misuse when the name is taken, before anything is made.
    """
    environment = plan_environment(runner)
    there = must(runner, "kind", "get", "clusters", environment=environment).split()
    if name in there and not keep:
        raise Misuse(
            f"a kind cluster named {name!r} is there already: add --chaos-keep to use it, choose kind:OTHER, or end it "
            f"with `kind delete cluster --name {name}`"
        )
    with tempfile.TemporaryDirectory(prefix="sharedfate-kind-") as scratch:
        folder = Path(scratch)
        archive = image_archive(
            runner, options, folder
        )  # first, because it is what fails most often, and nothing is made yet
        kubeconfig = folder / "kubeconfig"
        usable = False
        try:
            if name in there:
                kubeconfig.write_text(
                    must(runner, "kind", "get", "kubeconfig", "--name", name, environment=environment)
                )
            else:
                config = folder / "kind.yaml"
                config.write_text(yaml.safe_dump(plan_config(options.workers), sort_keys=False))
                must(
                    runner,
                    *plan_create(name, options, config=config, kubeconfig=kubeconfig),
                    seconds=CREATE_SECONDS,
                    environment=environment,
                )
            must(
                runner,
                "kind",
                "load",
                "image-archive",
                str(archive),
                "--name",
                name,
                seconds=LOAD_SECONDS,
                environment=environment,
            )
            usable = True
            yield kubeconfig
        except BaseException:
            _take_logs(runner, name, options, environment)
            raise
        else:
            if failed:
                _take_logs(runner, name, options, environment)
        finally:
            if not keep or not (usable or name in there):  # what is half made is of no use to anybody
                must(runner, *plan_delete(name, kubeconfig), seconds=120, environment=environment)


def image_archive(runner: Runner, options: KindOptions, folder: Path) -> Path:
    """The archive of our image that the options name, or one that is built from this checkout into the folder."""
    if options.archive is None:
        built = folder / "image.tar"
        build_and_save(
            runner, find_engine(runner, options.engine), Build(IMAGE, Path(__file__).resolve().parents[2]), built
        )
        return built
    if not options.archive.is_file():
        raise Misuse(f"{options.archive}: no image archive there")
    return options.archive


def _take_logs(runner: Runner, name: str, options: KindOptions, environment: Mapping[str, str]) -> None:
    """As far as they can be had: the failure itself must not be hidden by this one."""
    if options.logs is not None:
        with suppress(SharedfateError):
            must(
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
