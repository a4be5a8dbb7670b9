"""A k3d cluster of our own, on the seam of `chaos.cluster.kind`: made, given the image, handed out, deleted.

k3d (https://k3d.io) runs k3s in containers. Its server takes pods too, beside the agents. It exports no logs; what it
said of a failure is in the error. Not yet run: no k3d cluster was ever made by this code.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chaos.cluster.commands import Runner, check_output
from chaos.cluster.kind import ALREADY, CREATE_SECONDS, LOAD_SECONDS, NODE_IMAGE, KindOptions, image_archive
from chaos.errors import EnvironmentUnfit, Misuse

PREFIX: Final = "k3d-"  # of the context that its kubeconfig has


def plan_create(name: str, options: KindOptions) -> tuple[str, ...]:
    """The command that creates. The user's own kubeconfig is left alone, and nothing waits on ports 80 and 443."""
    image = () if options.node_image == NODE_IMAGE else ("--image", options.node_image)
    return (
        "k3d",
        "cluster",
        "create",
        name,
        "--servers",
        "1",
        "--agents",
        str(options.workers),
        *image,
        "--no-lb",
        "--k3s-arg",
        "--disable=traefik@server:*",
        "--kubeconfig-update-default=false",
        "--kubeconfig-switch-context=false",
        "--wait",
        "--timeout",
        "180s",
    )


def refuse_missing(runner: Runner) -> None:
    """Raises EnvironmentUnfit when k3d or docker is missing."""
    for program in ("k3d", "docker"):
        if runner.which(program) is None:
            raise EnvironmentUnfit(
                f"{program} is not on PATH: install it (https://k3d.io), or take the cluster embedded"
            )


def names(runner: Runner) -> list[str]:
    """Return the names of the existing k3d clusters."""
    return [
        line.split()[0]
        for line in check_output(runner, "k3d", "cluster", "list", "--no-headers").splitlines()
        if line.strip()
    ]


def delete_cluster(runner: Runner, name: str) -> bool:
    """Delete the k3d cluster of that name; False when there is none."""
    if name not in names(runner):
        return False
    check_output(runner, "k3d", "cluster", "delete", name, seconds=120)
    return True


@contextmanager
def k3d_cluster(runner: Runner, name: str, options: KindOptions, *, keep: bool) -> Iterator[Path]:
    """Yield the kubeconfig of a k3d cluster of that name, with our image in its nodes; delete it afterwards, unless
    `keep`.

    Raises EnvironmentUnfit when k3d or docker is missing and Misuse when the name is taken, before anything is made.
    """
    refuse_missing(runner)
    there = name in names(runner)
    if there and not keep:
        raise Misuse(
            f"a k3d cluster named {name!r} already exists: add --chaos-keep to use it, choose k3d:OTHER, or end it "
            "with "
            f"`k3d cluster delete {name}`"
        )
    with tempfile.TemporaryDirectory(prefix="sharedfate-k3d-") as scratch:
        archive, kubeconfig = image_archive(runner, options, Path(scratch)), Path(scratch) / "kubeconfig"
        usable = foreign = False
        try:
            if not there:
                try:
                    check_output(runner, *plan_create(name, options), seconds=CREATE_SECONDS)
                except EnvironmentUnfit as error:
                    foreign = ALREADY in str(error)  # made by somebody else since we looked: not ours to delete
                    raise
            kubeconfig.write_text(check_output(runner, "k3d", "kubeconfig", "get", name))
            check_output(runner, "k3d", "image", "import", str(archive), "--cluster", name, seconds=LOAD_SECONDS)
            usable = True
            yield kubeconfig
        finally:
            if not foreign and (not keep or not (usable or there)):  # what is half made is of no use to anybody
                check_output(runner, "k3d", "cluster", "delete", name, seconds=120)
