"""`sharedfate cluster`: the embedded cluster by itself, for kubectl and for trying things out."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from pathlib import Path

import click


@click.group()
def cluster() -> None:
    """The embedded cluster by itself."""


@cluster.command("up")
@click.option("--name", default="sharedfate", show_default=True)
@click.option("--nodes", default=2, show_default=True)
def cluster_up(name: str, nodes: int) -> None:
    """Start it, and print the path of its kubeconfig; it stays until `cluster down`."""
    from chaos.embedded import provider

    click.echo(provider.up(name, nodes=nodes, keep=True))


@cluster.command("down")
@click.option("--name", default="sharedfate", show_default=True)
def cluster_down(name: str) -> None:
    """Stop it and remove all that it made."""
    from chaos.embedded import provider

    provider.down(name)


@cluster.command("status")
@click.option("--name", default="sharedfate", show_default=True)
def cluster_status(name: str) -> None:
    """Say whether it runs."""
    from chaos.embedded import provider

    click.echo(json.dumps(provider.status(name), indent=1, default=str))


@cluster.command("kubeconfig")
@click.option("--name", default="sharedfate", show_default=True)
def cluster_kubeconfig(name: str) -> None:
    """Print the path of its kubeconfig: export KUBECONFIG=$(sharedfate cluster kubeconfig)."""
    from chaos.embedded import provider

    click.echo(provider.running(name).kubeconfig)


@cluster.command("load-image")
@click.option("--name", default="sharedfate", show_default=True)
@click.argument("archives", nargs=-1, required=True, type=click.Path(path_type=Path))
def cluster_load_image(name: str, archives: tuple[Path, ...]) -> None:
    """Unpack image archives (docker save, or OCI) for all nodes; print the images' names."""
    from chaos.embedded import provider

    for archive in archives:
        click.echo("\n".join(provider.load_image(name, archive)))


@cluster.command("node")
@click.option("--name", default="sharedfate", show_default=True)
@click.argument("node")
@click.argument("operation")
def cluster_node(name: str, node: str, operation: str) -> None:
    """Break or mend a node: power-off, power-on, cut-link, restore-link, stop-kubelet, start-kubelet."""
    from chaos.embedded import provider
    from chaos.errors import ApiError, Misuse
    from chaos.kube.client import Cluster

    path = "/embedded/nodes/" + "/".join(urllib.parse.quote(part, safe="") for part in (node, operation))
    with contextlib.closing(Cluster(provider.running(name).kubeconfig)) as client:
        try:
            client.request("POST", path)
        except ApiError as error:
            if error.code in (400, 404):
                raise Misuse(str(error)) from error
            raise
