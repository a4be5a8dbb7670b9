"""`sharedfate render`: what a mode applies, for kubectl."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from chaos.commands.which import known_modes, offer


@click.command()
@click.option("--mode", "mode", required=True, help="proxy mode", shell_complete=offer(known_modes))
@click.option(
    "--file",
    "-f",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="manifests of your applications: a file, a folder with all that is below it, or - for standard input",
)
@click.option("--run", "run_name", default="rendered", show_default=True, help="value of the run's label")
@click.option("--budget", default=1200, show_default=True, help="CPU of all proxies together, in millicores")
@click.option("--memory", default=1152, show_default=True, help="memory of all proxies together, in MiB")
def render(mode: str, files: tuple[Path, ...], run_name: str, budget: int, memory: int) -> None:
    """Print what a mode applies, as YAML for kubectl: the mesh's parts, and your manifests patched for it."""
    from chaos.documents import shown, understood
    from chaos.mesh import manifests
    from chaos.mesh.budget import Budget
    from chaos.mesh.render import render_mode

    objects = [obj for file in files for obj in manifests.read_all(file)]
    with understood(", ".join(map(shown, files))) if files else nullcontext():
        text = render_mode(mode, objects, run=run_name, budget=Budget(budget, memory))
    click.echo(text, nl=False)
