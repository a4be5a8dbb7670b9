"""`sharedfate clean`: remove whatever runs left, on this machine or in a cluster."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--cluster",
    default="embedded",
    show_default=True,
    help="embedded, kind[:NAME], k3d[:NAME], in-cluster or context:NAME",
)
@click.option("--run", "run_name", default="", help="of one run only (default: all runs)")
@click.option("--namespaces", default="", help="namespaces that are not ours and took part, comma separated")
def clean(cluster: str, run_name: str, namespaces: str) -> None:
    """Remove whatever runs left: faults are undone and pods un-captured first. Says what it found."""
    from chaos.engine.clean import clean_cluster

    listed = tuple(part.strip() for part in namespaces.split(",") if part.strip())
    found = clean_cluster(cluster, run=run_name, namespaces=listed)
    click.echo("\n".join(found) if found else "nothing to clean")
