"""`sharedfate cluster`: the embedded cluster by itself, for kubectl and for trying things out."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import click

from chaos.commands.which import known_names, offer, refuse_ignored
from chaos.errors import REFUSED
from chaos.names import DEFAULT_NAME

_name = click.option("--name", default=DEFAULT_NAME, show_default=True, shell_complete=offer(known_names))
OPERATIONS = ("power-off", "power-on", "cut-link", "restore-link", "stop-kubelet", "start-kubelet")


@click.group()
def cluster() -> None:
    """The embedded cluster by itself."""


@cluster.command("up")
@_name
@click.option("--nodes", default=2, show_default=True)
@click.pass_context
def cluster_up(ctx: click.Context, name: str, nodes: int) -> None:
    """Start it, and print the path of its kubeconfig; it stays until `cluster down`."""
    from chaos.embedded import provider

    if (there := provider.status(name)) is not None and there.state == "up":
        from chaos.kube.client import Cluster  # which a cluster that starts need not wait for

        with contextlib.closing(Cluster(there.kubeconfig)) as client:
            if (number := len(client.list("Node"))) != nodes:
                why = f"{name} is up, with {number} nodes: take it down first, or choose another name"
                refuse_ignored(ctx, why, "nodes")
    click.echo(provider.up(name, nodes=nodes, keep=True))


@cluster.command("down")
@_name
def cluster_down(name: str) -> None:
    """Stop it and remove all that it made."""
    from chaos.embedded import provider

    provider.down(name)


@cluster.command("status")
@_name
@click.option("--json", "as_json", is_flag=True, help="for programs: name, state, pid, kubeconfig")
def cluster_status(name: str, as_json: bool) -> None:
    """Say whether it runs. Exit code 0: it is up; 4: it is not."""
    from chaos.embedded import provider

    found = provider.status(name)
    state = found.state if found is not None else "down"
    pid, kubeconfig = (found.pid, found.kubeconfig) if found is not None else (None, None)
    if as_json:
        facts = {"name": name, "state": state, "pid": pid, "kubeconfig": str(kubeconfig) if kubeconfig else None}
        click.echo(json.dumps(facts, indent=1))
    else:
        more = {
            "up": f", pid {pid}, kubeconfig {kubeconfig}",
            "down": f": start it with `sharedfate cluster up --name {name}`",
            "dead": ": its process is gone; `sharedfate clean` removes what it left",
        }
        click.echo(f"{name}: {state}{more.get(state, '')}")
    sys.exit(0 if state == "up" else REFUSED)


@cluster.command("kubeconfig")
@_name
def cluster_kubeconfig(name: str) -> None:
    """Print the path of its kubeconfig: export KUBECONFIG=$(sharedfate cluster kubeconfig)."""
    from chaos.embedded import provider

    click.echo(provider.running(name).kubeconfig)


@cluster.command("load-image")
@_name
@click.argument("archives", nargs=-1, required=True, type=click.Path(path_type=Path))
def cluster_load_image(name: str, archives: tuple[Path, ...]) -> None:
    """Unpack image archives (docker save, or OCI) for all nodes; print the images' names."""
    from chaos.embedded import provider

    for archive in archives:
        click.echo("\n".join(provider.load_image(name, archive)))


@cluster.command("node")
@_name
@click.argument("node")
@click.argument("operation", type=click.Choice(OPERATIONS))
def cluster_node(name: str, node: str, operation: str) -> None:
    """Break or mend a node."""
    import urllib.parse

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
