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
@click.option("--dry-run", is_flag=True, help="say what would be removed, and remove nothing")
def clean(cluster: str, run_name: str, namespaces: str, dry_run: bool) -> None:
    """Remove whatever runs left: faults are undone and pods un-captured first. Says what it found.

    On the embedded cluster it removes what dead clusters left, and ends those whose owner is gone; `--run` keeps to
    that run's own.
    """
    from chaos.engine.clean import clean_cluster

    listed = tuple(part.strip() for part in namespaces.split(",") if part.strip())
    found = clean_cluster(cluster, run=run_name, namespaces=listed, dry_run=dry_run)
    if dry_run:
        found = [f"would be removed: {line}" for line in found]
    click.echo("\n".join(found) if found else "nothing to clean")
