"""The plugin's options, the settings made from them, and the session's progress line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chaos.plugin import xdist

if TYPE_CHECKING:
    from chaos.engine.settings import Settings
    from chaos.engine.terminal import TerminalProgress

_SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
_PROGRESS: pytest.StashKey[TerminalProgress] = pytest.StashKey()


def add_options(parser: pytest.Parser) -> None:
    """Every `--chaos-*` option."""
    group = parser.getgroup("sharedfate", "sharedfate: who is hurt when a shared proxy dies or drowns")
    add = group.addoption
    add(
        "--chaos-cluster",
        default="embedded",
        help="embedded (default), kind[:NAME], k3d[:NAME], context:NAME for an existing one, or in-cluster",
    )
    add(
        "--chaos-allow-production",
        action="store_true",
        help="context:NAME looks like production, and is meant all the same",
    )
    add(
        "--chaos-namespaces",
        default="",
        help="namespaces that are not ours and may be changed, comma separated (default: none)",
    )
    add("--chaos-kind-image", default=None, help="node image of a kind cluster (default: one that is pinned by digest)")
    add(
        "--chaos-image-archive",
        default=None,
        help="archive of our image for a kind cluster (default: built from the sources of this package)",
    )
    add("--chaos-modes", default=None, help="proxy modes, comma separated, all, or default")
    add("--chaos-scenarios", default=None, help="scenarios, comma separated, all, or default: the default matrix")
    add(
        "--chaos-extensions",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of your own modes/, meshes/, faults/ and experiments/; may be given several times",
    )
    add(
        "--chaos-target",
        default=None,
        metavar="FILE",
        help="target file: run on the mesh and the apps that it describes, in a "
        "cluster of yours, instead of deploying modes",
    )
    add(
        "--chaos-topology",
        default=None,
        metavar="WHAT",
        help="the reference tenants: a YAML file, or tenants=60,servers=3,spread=node|zone|packed,rate=20 "
        "(default: three tenants on two nodes)",
    )
    add("--chaos-nodes", type=int, default=2, help="nodes of a cluster that we make (default: 2)")
    add("--chaos-out", default="sharedfate-out", help="run directory: reports and histories (default: sharedfate-out)")
    add("--chaos-budget", type=int, default=1200, help="CPU of all proxies together, in millicores (default: 1200)")
    add(
        "--chaos-every",
        type=float,
        default=0.2,
        metavar="SECONDS",
        help="between two questions for each loader's samples; more "
        "spares the API server of a large cluster (default: 0.2)",
    )
    add(
        "--chaos-history",
        default="full",
        metavar="full|ledger",
        help="what is fetched of each request while a trial runs: the whole sample, or the few bytes that a verdict "
        "reads, for hundreds of tenants; verdicts are the same (default: full)",
    )
    add(
        "--chaos-repeat",
        type=int,
        default=None,
        metavar="N",
        help="kill so many times in a trial, each time a fresh pod (default: up to 3, while the judge does not pass)",
    )
    add(
        "--chaos-proxy-version",
        default="",
        metavar="IMAGE",
        help="what proxy-upgraded changes the proxies to, and back: an image, or what the mesh's own annotation takes "
        "(default: they are restarted)",
    )
    add("--chaos-seed", type=int, default=None, help="seed of every random choice (default: drawn, and shown)")
    add(
        "--chaos-mesh-install",
        action="store_true",
        help="install the meshes of the chosen modes where they are missing, by their own programs, and uninstall them "
        "(in clusters that we made: kind, k3d, embedded)",
    )
    add("--chaos-keep", action="store_true", help="leave the cluster running")
    add(
        "--chaos-inconclusive",
        default="retry",
        help="what a trial without a clear answer counts as: fail, skip or retry",
    )
    add(
        "--chaos-trace",
        action="store_true",
        help="write where the run's time went: trace.json in the run directory, for Perfetto or chrome://tracing, and "
        "a bar of each trial on the page",
    )
    add("--chaos-baseline", default=None, help="report.json of an earlier run: regressions against it fail the run")


def option_names() -> list[str]:
    """The names of every `--chaos-*` option."""
    found = _Names()
    add_options(found)  # type: ignore[arg-type]  # a parser as far as it is asked
    return found.names


class _Names:
    """Notes the options that are added."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def getgroup(self, *_: str) -> _Names:
        return self

    def addoption(self, name: str, **_: object) -> None:
        self.names.append(name)


def is_asked_for(config: pytest.Config) -> bool:
    """Whether any of our options was given."""
    option = config.option
    chosen = (option.chaos_modes, option.chaos_scenarios, option.chaos_target)
    given = (str(argument) for argument in config.invocation_params.args)
    return any(one is not None for one in chosen) or any(one.startswith("--chaos-") for one in given)


def settings_of(config: pytest.Config) -> Settings:
    """The run's settings; a usage error (exit code 4) with every problem when an option is wrong."""
    if _SETTINGS not in config.stash:
        from chaos.engine.settings import parse_settings
        from chaos.errors import Misuse

        o = config.option
        try:
            config.stash[_SETTINGS] = parse_settings(
                cluster=xdist.cluster(config, o.chaos_cluster),
                modes=o.chaos_modes or "",
                scenarios=o.chaos_scenarios or "",
                nodes=o.chaos_nodes,
                out=xdist.directory(config, o.chaos_out),
                budget=o.chaos_budget,
                seed=xdist.seed(config, o.chaos_seed),
                keep=o.chaos_keep,
                mesh_install=o.chaos_mesh_install,
                inconclusive=o.chaos_inconclusive,
                baseline=o.chaos_baseline,
                allow_production=o.chaos_allow_production,
                namespaces=o.chaos_namespaces,
                kind_image=o.chaos_kind_image,
                image_archive=o.chaos_image_archive,
                target=o.chaos_target,
                every=o.chaos_every,
                history=o.chaos_history,
                repeat=o.chaos_repeat,
                proxy_version=o.chaos_proxy_version,
                trace=o.chaos_trace,
                topology=o.chaos_topology,
            )
        except Misuse as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[_SETTINGS]


def known_scenarios() -> list[str]:
    """The names of the shipped scenarios, and of those that collected files define."""
    from chaos.engine.catalogue import scenario_names

    return list(scenario_names())


def progress_of(config: pytest.Config) -> TerminalProgress:
    """The session's progress line."""
    from chaos.engine.terminal import TerminalProgress

    if _PROGRESS not in config.stash:
        config.stash[_PROGRESS] = TerminalProgress(config)
    return config.stash[_PROGRESS]
