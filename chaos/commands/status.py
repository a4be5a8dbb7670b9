"""`sharedfate status`: the mesh as it is in a cluster now: proxies with scope, budget and identities, and who shares
them.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--cluster", "name", default="sharedfate", show_default=True, help="name of an embedded cluster that runs"
)
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="of another cluster instead")
@click.option("--context", default=None, help="context in that kubeconfig")
def status(name: str, kubeconfig: Path | None, context: str | None) -> None:
    """Show each proxy with its scope, its budget, the identities that it holds and the pods that share it."""
    from chaos.embedded import provider
    from chaos.errors import Misuse
    from chaos.kube.client import Cluster
    from chaos.mesh.status import read_status

    if kubeconfig is None:
        found = provider.status(name)
        if found is None or found.state != "up":
            raise Misuse(
                f"no embedded cluster {name!r} runs: start one with `sharedfate cluster up`, or name a --kubeconfig"
            )
        kubeconfig = found.kubeconfig
    cluster = Cluster(kubeconfig, context=context)
    try:
        click.echo(read_status(cluster))
    finally:
        cluster.close()
