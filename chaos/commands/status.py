"""`sharedfate status`: the mesh as it is in a cluster now: proxies with scope, budget and identities, and who shares
them.
"""

from __future__ import annotations

from pathlib import Path

import click

from chaos.commands.which import connected, looked_into


@click.command()
@looked_into
def status(spec: str, kubeconfig: Path | None) -> None:
    """Show each proxy with its scope, its budget, the identities that it holds and the pods that share it."""
    from chaos.mesh.status import read_status

    with connected(spec, kubeconfig) as cluster:
        click.echo(read_status(cluster))
