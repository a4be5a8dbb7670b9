"""`sharedfate predict`: whom each proxy's death would hurt, before anything is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaos.commands.which import cluster_option, looking

if TYPE_CHECKING:
    from chaos.prediction.world import World


@click.command()
@cluster_option(None)
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="your own apps and mesh: a target file")
@click.option(
    "--objects",
    multiple=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="instead of a cluster: what `kubectl get pods,nodes,services,endpointslices,namespaces -A -o json` wrote",
)
@click.option("--run", default="", help="with --objects: which of several runs of ours")
@click.option("--when", multiple=True, metavar="WHAT", help="what breaks: node-7, 'zone b', 'pod shop/web-1', a proxy")
@click.option(
    "--scope",
    multiple=True,
    metavar="SHARING",
    help="another sharing to hold beside: MODE,replicas=N,spread=node|zone|packed, each optional",
)
@click.option("--out", type=click.Path(path_type=Path), help="a folder for prediction.json and prediction.html")
@click.option("--json", "as_json", is_flag=True, help="print the JSON")
def predict(
    spec: str | None,
    target_file: Path | None,
    objects: tuple[Path, ...],
    run: str,
    when: tuple[str, ...],
    scope: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Say for every proxy, node and zone whom its end would hurt, by share, from the live placement. Changes nothing.

    The model is the one by which a run judges: what is predicted here is what a trial would expect.
    """
    from chaos.mesh.modes import known_modes
    from chaos.prediction.document import document
    from chaos.prediction.page import page
    from chaos.prediction.predicting import predict as predicted
    from chaos.prediction.sharings import parse_sharing
    from chaos.prediction.text import describe

    sharings = [parse_sharing(text, known_modes()) for text in scope]
    found = predicted(_world(spec, target_file, objects, run), whens=when, sharings=sharings)
    text = json.dumps(document(found), indent=1) if out is not None or as_json else ""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "prediction.json").write_text(f"{text}\n")
        (out / "prediction.html").write_text(page(found))
    click.echo(text if as_json else describe(found))


def _world(spec: str | None, target_file: Path | None, objects: tuple[Path, ...], run: str) -> World:
    from chaos.errors import Misuse
    from chaos.external import read_target
    from chaos.prediction.live import read_world
    from chaos.prediction.saved import read_objects, world_of

    target = read_target(target_file) if target_file is not None else None  # before the cluster is asked anything
    if objects:
        if spec is not None:
            raise Misuse("--cluster and --objects exclude each other: the objects are read instead of a cluster")
        return world_of(read_objects(objects), target, run=run)
    if run:
        raise Misuse("--run belongs to --objects: in a cluster there is one mesh of ours")
    if spec is None:
        raise Misuse("--cluster or --objects is missing: context:NAME, embedded:NAME; or a file of saved objects")
    with looking(spec) as client:
        return read_world(client, target)
