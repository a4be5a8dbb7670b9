"""`sharedfate image`: the one image, built, saved, loaded and pushed with docker, podman or buildah."""

from __future__ import annotations

from pathlib import Path

import click

from chaos.commands.which import refuse_ignored


@click.group()
def image() -> None:
    """The image of all our parts: build it, save it, load it, push it."""


_engine = click.option("--engine", default="", help="docker, podman or buildah (default: the first that is installed)")


@image.command("build")
@_engine
@click.option("--python-image", default="", help="base image, instead of the Dockerfile's pinned one")
@click.option(
    "--build-arg", "build_args", multiple=True, metavar="NAME=VALUE", help="another argument of the Dockerfile"
)
@click.option("--isolation", default="", help="buildah's: chroot, where containers cannot be nested")
@click.option("--network", default="", help="network of the build, e.g. host")
@click.option("--no-pull", is_flag=True, help="take the base image as it is on this machine")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=None, help="a checkout (default: the sources of this package)"
)
def build(
    engine: str,
    python_image: str,
    build_args: tuple[str, ...],
    isolation: str,
    network: str,
    no_pull: bool,
    folder: Path | None,
) -> None:
    """Build it, from the sources that this package came with or from a checkout."""
    import tempfile

    from chaos.cluster.commands import Shell
    from chaos.cluster.images import BUILD_SECONDS, Build, apply, find_engine, plan_build
    from chaos.fields import parse_pairs
    from chaos.names import IMAGE
    from chaos.resources import build_context

    arguments = parse_pairs("--build-arg", build_args)
    if python_image:
        arguments["PYTHON_IMAGE"] = python_image
    shell = Shell()
    with tempfile.TemporaryDirectory(prefix="sharedfate-image-") as scratch:
        source = folder or build_context(Path(scratch))
        wanted = Build(IMAGE, source, arguments, isolation=isolation, network=network, pull=not no_pull)
        apply(shell, [plan_build(find_engine(shell, engine), wanted)], seconds=BUILD_SECONDS)
    click.echo(IMAGE)


@image.command("save")
@_engine
@click.argument("archive", type=click.Path(path_type=Path))
def save(engine: str, archive: Path) -> None:
    """Write it to an archive: to be imported on nodes without a registry."""
    from chaos.cluster.commands import Shell
    from chaos.cluster.images import apply, find_engine, plan_save
    from chaos.errors import Misuse
    from chaos.names import IMAGE

    if archive.exists():
        raise Misuse(f"{archive} already exists: remove it, or choose another name")
    shell = Shell()
    apply(shell, plan_save(find_engine(shell, engine), IMAGE, archive))
    click.echo(archive)


@image.command("load")
@_engine
@click.option(
    "--cluster", default="", help="kind[:NAME], k3d[:NAME], or embedded:NAME; without it, into the engine itself"
)
@click.argument("archive", type=click.Path(path_type=Path, exists=True))
@click.pass_context
def load(ctx: click.Context, engine: str, cluster: str, archive: Path) -> None:
    """Bring an archive into the engine, or into the nodes of a cluster of ours."""
    from chaos.cluster.commands import Shell, check_output
    from chaos.cluster.images import MOVE_SECONDS, apply, find_engine, plan_load
    from chaos.cluster.providers import Kind, parse_spec
    from chaos.errors import Misuse
    from chaos.names import DEFAULT_NAME

    shell = Shell()
    if not cluster:
        apply(shell, plan_load(find_engine(shell, engine), archive))
        return
    refuse_ignored(ctx, f"{cluster} takes the archive itself; leave it out", "engine")
    spec = parse_spec(cluster)
    if spec.kind is Kind.EMBEDDED:
        from chaos.embedded.provider import load_image

        click.echo("\n".join(load_image(spec.name or DEFAULT_NAME, archive)))
        return
    if spec.kind is Kind.K3D:
        check_output(shell, "k3d", "image", "import", str(archive), "--cluster", spec.name, seconds=MOVE_SECONDS)
        return
    if spec.kind is not Kind.KIND:
        raise Misuse(
            f"{cluster}: nodes of a cluster that is not ours: import {archive} there by hand, on each node: "
            "ctr -n k8s.io images import, or podman load for CRI-O"
        )
    check_output(shell, "kind", "load", "image-archive", str(archive), "--name", spec.name, seconds=MOVE_SECONDS)


@image.command("push")
@_engine
@click.argument("to")
def push(engine: str, to: str) -> None:
    """Push it to a registry as REGISTRY/NAME:TAG; a run takes it from there with SHAREDFATE_IMAGE=REGISTRY/NAME:TAG."""
    from chaos.cluster.commands import Shell
    from chaos.cluster.images import apply, find_engine, plan_push
    from chaos.names import IMAGE

    shell = Shell()
    apply(shell, plan_push(find_engine(shell, engine), IMAGE, to))
    click.echo(to)
