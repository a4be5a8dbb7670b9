"""`sharedfate experiment`: list, show, begin, validate and run experiment files. Exit codes: 0 pass, 1 anything else, 4
refused.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from chaos.commands.which import offer
from chaos.errors import Misuse
from chaos.fields import parse_pairs
from chaos.resources import shipped_experiments


@click.group()
def experiment() -> None:
    """Chaos Toolkit experiments, with a gate that reads the whole journal."""


@experiment.command("list")
def list_shipped() -> None:
    """The experiments that ship with the package, with their claims."""
    from chaos.toolkit.files import load

    found = {path.stem: str(load(path)["title"]) for path in shipped_experiments()}
    width = max(map(len, found))
    for name, claim in found.items():
        click.echo(f"{name:<{width}}  {claim}")


@experiment.command()
@click.argument(
    "name", type=click.Path(path_type=Path), shell_complete=offer(lambda: [p.stem for p in shipped_experiments()])
)
def show(name: Path) -> None:
    """Print a shipped experiment, by its name."""
    click.echo(find(name).read_text(), nl=False)


@experiment.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--like",
    default="proxy-paused",
    show_default=True,
    help="the shipped experiment to begin from",
    shell_complete=offer(lambda: [p.stem for p in shipped_experiments()]),
)
def new(file: Path, like: str) -> None:
    """Begin an experiment of your own: write a copy of a shipped one, to be changed. Never over a file."""
    if file.suffix not in (".yaml", ".yml"):
        raise Misuse(f"{file}: an experiment file ends in .yaml or .yml")
    source = find(Path(like))
    try:
        with file.open("x") as made:
            made.write(renamed(source.read_text(), source.stem, file.stem))
    except FileExistsError as error:
        raise Misuse(f"{file}: already exists: choose another name") from error
    except OSError as error:
        raise Misuse(f"{file}: cannot be written: {error.strerror}") from error
    click.echo(
        f"{file}: as {source.stem}; change it, then `sharedfate experiment validate {file}` and `... run {file}`"
    )


def renamed(text: str, old: str, new: str) -> str:
    """Return the experiment under another name: its runs and reports are found by the control's `name`."""
    return re.sub(rf"(\bname: |experiments/){re.escape(old)}\b", rf"\g<1>{new}", text)


@experiment.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="override a configuration variable")
def validate(files: tuple[Path, ...], variables: tuple[str, ...]) -> None:
    """Refuse files that are not right: file, path within the file, and what would be right."""
    from chaos.toolkit.files import load_checked

    problems = []
    for file in files:
        try:
            load_checked(find(file), parse_pairs("--var", variables))
        except Misuse as error:
            problems.append(str(error))
    if problems:
        raise Misuse("\n".join(problems))
    click.echo(f"{len(files)} right")


@experiment.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="override a configuration variable, such as mode=node",
)
@click.option(
    "--out",
    default="sharedfate-out",
    show_default=True,
    type=click.Path(path_type=Path),
    help="where a journal goes that has no history to lie beside",
)
def run(files: tuple[Path, ...], variables: tuple[str, ...], out: Path) -> None:
    """Run experiments. Green is what was proved: everything ran, the hypothesis held throughout, nothing was
    swallowed.
    """
    from chaos.toolkit.files import load_checked
    from chaos.toolkit.runner import run_file

    chosen, paths = parse_pairs("--var", variables), [find(file) for file in files]
    for path in paths:  # all of them, before the first is started
        load_checked(path, chosen)
    green = True
    for path in paths:
        outcome = run_file(path, variables=chosen, out=out, progress=_Lines())
        green &= outcome.gate_verdict.passed
        click.echo(f"{path}: {outcome.gate_verdict}")
        if outcome.path:
            click.echo(f"  journal {outcome.path}")
    sys.exit(0 if green else 1)


class _Lines:
    """Progress as lines on standard error."""

    def step(self, text: str) -> None:
        click.echo(text, err=True)

    def live(self, text: str) -> None:
        del text


def find(file: Path) -> Path:
    """The file itself, or the shipped experiment of that name; raises Misuse naming those."""
    if file.exists():
        return file
    for path in shipped_experiments():
        if file.name in (path.name, path.stem) and file.parent in (Path(), Path("experiments")):
            return path
    raise Misuse(
        f"{file}: no such file, nor a shipped experiment: those are {', '.join(p.stem for p in shipped_experiments())}"
    )
