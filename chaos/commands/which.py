"""How every command says which cluster, and what the shell offers while one is typed.

One spelling everywhere: `embedded[:NAME]`, `kind[:NAME]`, `k3d[:NAME]`, `in-cluster`, `context:NAME`, as for
`--chaos-cluster`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from chaos.errors import EnvironmentUnfit, Misuse
from chaos.names import DEFAULT_NAME

if TYPE_CHECKING:
    from chaos.kube.client import Cluster

SPELLING: Final = "embedded[:NAME], kind[:NAME], k3d[:NAME], in-cluster or context:NAME"
Names = Callable[[], Sequence[str]]
Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def cluster_option(default: str | None = "embedded") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option `--cluster`, of the command's argument `spec`. Without a default it must be given."""
    return click.option(
        "--cluster",
        "spec",
        default=default,
        required=default is None,
        show_default=default is not None,
        help=SPELLING,
        shell_complete=offer(known_clusters),
    )


def running_cluster(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command for a cluster that runs: `spec`, `kubeconfig`, `namespaces`."""
    function = click.option("--namespaces", default="", help="that are not ours and may be changed, comma separated")(
        function
    )
    return looked_into(function)


def looked_into(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that changes nothing in a cluster that runs: `spec`, `kubeconfig`."""
    path = click.Path(path_type=Path)
    function = click.option("--kubeconfig", type=path, help="of a context, kind or k3d; default: yours")(function)
    return cluster_option()(function)


def refuse_ignored(ctx: click.Context, why: str, *parameters: str) -> None:
    """Raise Misuse when one of these parameters was given, which would do nothing.

    Args:
        why: when each is honoured, and what to do.
    """
    for one in ctx.command.params:
        if one.name in parameters and ctx.get_parameter_source(one.name) is ParameterSource.COMMANDLINE:
            raise Misuse(f"{one.opts[0]} does nothing here: {why}")


@contextmanager
def connected(spec: str, kubeconfig: Path | None = None, namespaces: str = "") -> Iterator[Cluster]:
    """Connect to a cluster that must run already: nothing is started. Raises EnvironmentUnfit when it does not, and
    Misuse for a kubeconfig where none is asked.
    """
    from chaos.cluster.consent import Consent
    from chaos.cluster.providers import BY_KUBECONFIG, ClusterSpec, Kind, connect_to, parse_spec
    from chaos.kube.client import Cluster

    parsed = parse_spec(spec)
    if kubeconfig is not None and (why := parsed.why_ignored("--kubeconfig", BY_KUBECONFIG)):
        raise Misuse(why)
    if parsed.kind is Kind.EMBEDDED:
        from chaos.embedded import provider

        name = parsed.name or DEFAULT_NAME
        status = provider.status(name)
        if status is None or status.state != "up":
            raise EnvironmentUnfit(
                f"no embedded cluster named {name!r} is up: start one with `sharedfate cluster up --name {name}`"
            )
        cluster = Cluster(status.kubeconfig, kind="embedded", name=name, owned=True)
    else:
        listed = tuple(part.strip() for part in namespaces.split(",") if part.strip())
        context = {Kind.KIND: "kind-", Kind.K3D: "k3d-"}.get(parsed.kind, "") + parsed.name
        named = parsed if parsed.kind is Kind.IN_CLUSTER else ClusterSpec(Kind.CONTEXT, context)
        cluster = connect_to(named, kubeconfig=kubeconfig, consent=Consent(namespaces=listed))
    try:
        yield cluster
    finally:
        cluster.close()


@contextmanager
def looking(spec: str) -> Iterator[Cluster]:
    """Connect to a running cluster for a read-only command: it needs no consent beyond the name."""
    from chaos.cluster.consent import Consent
    from chaos.cluster.providers import connect_to, parse_spec

    parsed = parse_spec(spec)
    if not parsed.kind.theirs:
        with connected(spec) as cluster:
            yield cluster
        return
    cluster = connect_to(parsed, consent=Consent(production=True))  # looking harms nobody
    try:
        yield cluster
    finally:
        cluster.close()


def offer(names: Names) -> Completion:
    """Return a completion from names; in a list with commas, of its last part. Errors offer nothing."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del ctx, param
        before, comma, last = incomplete.rpartition(",")
        try:
            found = names()
        except Exception:  # a shell that waits for an answer is no place for an error
            return []
        return [CompletionItem(before + comma + name) for name in found if name.startswith(last)]

    return complete


def known_modes() -> list[str]:
    from chaos.external.modes import known_modes

    return [*known_modes(), "all", "default"]


def known_scenarios() -> list[str]:
    from chaos.engine.catalogue import scenario_names

    return [*scenario_names(), "all", "default"]


def known_faults() -> list[str]:
    from chaos.faults import catalogue

    return sorted(catalogue.known_faults())


def known_names() -> list[str]:
    """The embedded clusters of this machine."""
    from chaos.embedded import provider

    return provider.names()


def known_clusters() -> list[str]:
    """The kinds, the embedded clusters of this machine, and the contexts of the user's kubeconfig."""
    import yaml

    from chaos.cluster.contexts import kubeconfig_paths

    found = ["embedded", *(f"embedded:{name}" for name in known_names()), "kind", "k3d"]
    for path in kubeconfig_paths():
        if path.is_file():
            contexts = (yaml.safe_load(path.read_text()) or {}).get("contexts") or []
            found += [f"context:{one['name']}" for one in contexts]
    return found
