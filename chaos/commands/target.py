"""`sharedfate target`: what the fate model predicts for the user's own apps and mesh, before anything is broken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaos.commands.which import cluster_option, looking

if TYPE_CHECKING:
    from chaos.external.file import TargetSystem
    from chaos.kube.client import Cluster


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@cluster_option(None)
@click.option("--discover", is_flag=True, help="write a target file instead, of what is in the namespaces")
@click.option("--namespaces", default="", help="for --discover: the tenants' namespaces, comma separated")
def target(file: Path | None, spec: str | None, *, discover: bool, namespaces: str) -> None:
    """Read a target file, find the proxies, and say for each who is hurt when it dies. Changes nothing.

    With --discover: print a target file of the namespaces, or write it to FILE, to be looked through and completed.
    """
    from chaos.cluster.providers import Kind, parse_spec
    from chaos.errors import Misuse

    spaces = [part.strip() for part in namespaces.split(",") if part.strip()]
    if discover is not bool(spaces):
        raise Misuse("--discover and --namespaces NAME,.. belong together")
    if not discover and file is None:
        raise Misuse("name a target file, or let one be written: --discover --namespaces NAME,..")
    if spec is None:
        raise Misuse("--cluster is missing: context:NAME, in-cluster, or embedded:NAME, where your apps are")
    parsed = parse_spec(spec)
    if not parsed.kind.theirs and not (parsed.kind is Kind.EMBEDDED and parsed.name):
        raise Misuse(f"--cluster {spec}: your own apps are in a cluster of yours: context:NAME or in-cluster")
    if not discover:
        assert file is not None
        _describe(spec, file)
        return
    from chaos.external.discovery import discover_target

    with looking(spec) as client:
        text = discover_target(client, spaces)
    if file is None:
        click.echo(text, nl=False)
    elif file.exists():
        raise Misuse(f"{file}: exists already: choose another name")
    else:
        file.write_text(text)


def _describe(spec: str, file: Path) -> None:
    from chaos.external import read_target

    wanted = read_target(file)  # before the cluster is asked anything
    with looking(spec) as client:
        click.echo(_described(client, wanted))


def _described(client: Cluster, wanted: TargetSystem) -> str:
    """The picture, the mesh's own view of it, and advice."""
    from chaos.external import read_target_placement
    from chaos.external.advice import advice, read_evidence
    from chaos.external.reading import compare_views
    from chaos.external.text import describe_mesh

    mesh, placement = read_target_placement(client, wanted)
    differs, looked = compare_views(client, mesh, wanted, placement)
    lines = [describe_mesh(mesh, placement), f"the mesh's own view: {looked}"]
    lines += [f"  CONTRADICTS: {one}" for one in differs]
    if found := advice(read_evidence(client, wanted), placement):
        lines += ["advice", *(f"  {one}" for one in found)]
    return "\n".join(lines)
