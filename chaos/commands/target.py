"""`sharedfate target`: what the fate model says of the user's own apps and mesh, before anything is broken."""

from __future__ import annotations

from pathlib import Path

import click

from chaos.commands.which import cluster_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@cluster_option(None)
def target(file: Path, spec: str) -> None:
    """Read a target file, find the proxies, and say for each who is hurt when it dies. Changes nothing."""
    from chaos.cluster.consent import Consent
    from chaos.cluster.providers import connect_to, parse_spec
    from chaos.errors import Misuse
    from chaos.external import read_target, read_target_placement
    from chaos.external.text import describe_mesh

    wanted = read_target(file)
    parsed = parse_spec(spec)
    if not parsed.kind.theirs:
        raise Misuse(f"--cluster {spec}: your own apps are in a cluster of yours: context:NAME or in-cluster")
    client = connect_to(parsed, consent=Consent(production=True))  # looking harms nobody
    try:
        mesh, placement = read_target_placement(client, wanted)
    finally:
        client.close()
    click.echo(describe_mesh(mesh, placement))
