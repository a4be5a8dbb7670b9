"""The options of a run, checked whole before anything is started."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from chaos.cluster.consent import Consent
from chaos.cluster.kind import NODE_IMAGE, KindOptions
from chaos.cluster.providers import THEIRS, Kind, parse_spec
from chaos.engine.matrix import DEFAULT, ON_TARGET, in_matrix
from chaos.engine.topology import REFERENCE, Topology, read_topology
from chaos.errors import Misuse
from chaos.external.file import TargetSystem, read_target
from chaos.external.modes import known_modes
from chaos.history.spans import TRACE_FILE
from chaos.load.detail import Detail
from chaos.mesh.budget import DEFAULT_MILLICORES
from chaos.mesh.modes import known_modes as deployed_modes


class Inconclusive(StrEnum):
    """What a trial without a clear verdict counts as."""

    FAIL = "fail"
    SKIP = "skip"
    RETRY = "retry"  # once more with fresh pods; then fail


NODES = 2  # of a cluster that we make, unless told otherwise
MOST_REPEATS = 20  # of a kill, in one trial
RUN_FILE = "run.json"  # in a run directory: what the run was
# What a run that was refused leaves there.
OF_REFUSED = {"junit.xml", "report.json", "report.md", "report.html", "comparison.svg", "comparison.png", TRACE_FILE}
ALL = "all"
DEFAULT_MATRIX = "default"  # of modes or scenarios: what the default matrix holds


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a run."""

    cluster: str = "embedded"
    modes: tuple[str, ...] = tuple(DEFAULT)
    scenarios: tuple[str, ...] = ()  # empty: of each mode those of the default matrix; (ALL,): every one
    nodes: int = NODES
    out: Path = Path("sharedfate-out")
    budget: int = DEFAULT_MILLICORES  # millicores for all proxies together
    seed: int = 1
    keep: bool = False
    inconclusive: Inconclusive = Inconclusive.RETRY
    baseline: Path | None = None
    rate: float = 120.0  # requests a second of each flow
    consent: Consent = field(default_factory=Consent)  # to break things in a cluster that is not ours
    kind: KindOptions = field(default_factory=KindOptions)
    every: float = 0.2  # seconds between two questions for a loader's samples
    history: Detail = Detail.FULL  # how much of each request is fetched while a trial runs
    mesh_install: bool = False  # of meshes whose modes were chosen and that are missing, in clusters of our own
    target: TargetSystem | None = None  # a mesh that is not ours, in the modes' place
    proxy_version: str = ""  # to which proxy-upgraded changes the proxies, and back; "": it restarts them
    trace: bool = False  # write where the run's time went
    topology: Topology = REFERENCE  # of the reference tenants
    repeat: int = 0  # kills of one trial; 0: up to three, while the judge does not pass


def _is_anothers(directory: Path) -> bool:
    """Whether something is there that no run has made. Raises OSError where that cannot be found out."""
    if not directory.exists() or (directory / RUN_FILE).is_file():
        return False
    return not directory.is_dir() or bool({path.name for path in directory.iterdir()} - OF_REFUSED)


def parse_settings(
    *,
    cluster: str,
    modes: str,
    scenarios: str,
    nodes: int,
    out: str,
    budget: int,
    seed: int | None,
    keep: bool,
    inconclusive: str,
    baseline: str | None,
    allow_production: bool = False,
    namespaces: str = "",
    kind_image: str | None = None,
    image_archive: str | None = None,
    target: str | None = None,
    every: float = 0.2,
    history: str = Detail.FULL,
    repeat: int | None = None,
    mesh_install: bool = False,
    proxy_version: str = "",
    trace: bool = False,
    topology: str | None = None,
) -> Settings:
    """Parse option texts into Settings; raises one Misuse with every problem. `refuse_unknown` checks later whether the
    scenarios exist, because files that are not collected yet may define them.
    """
    problems: list[str] = []
    own: TargetSystem | None = None
    try:
        spec = parse_spec(cluster)
        made = set(Kind) - THEIRS
        for option, given, by in (
            ("--chaos-allow-production", allow_production, THEIRS),
            ("--chaos-namespaces", namespaces, THEIRS),
            ("--chaos-kind-image", kind_image, {Kind.KIND, Kind.K3D}),
            ("--chaos-image-archive", image_archive, {Kind.KIND, Kind.K3D}),
            ("--chaos-nodes", nodes != NODES, made),
        ):
            if given and (why := spec.why_ignored(option, by)):
                problems.append(why)
        if mesh_install and spec.kind.theirs:
            problems.append(f"cluster {cluster}: no mesh is installed in a cluster that we did not make")
        if target and not spec.kind.theirs and not (spec.kind is Kind.EMBEDDED and spec.name):
            problems.append(
                f"cluster {cluster}: the mesh of a target file is in a cluster of yours: context:NAME or in-cluster"
            )
    except Misuse as error:
        problems.append(str(error))
    try:
        own = read_target(Path(target)) if target else None
    except Misuse as error:
        problems.append(str(error))
    placed = REFERENCE
    try:
        placed = read_topology(topology) if topology else REFERENCE
    except Misuse as error:
        problems.append(str(error))
    if own and topology:
        problems.append(f"topology {topology}: the tenants of a target are where they are; leave it out")
    if own and modes:
        problems.append(f"modes {modes}: a target's mesh is what it is; leave the modes out")
    chosen = _chosen(modes, tuple(DEFAULT), list(known_modes()), "proxy mode", problems, all_of=list(deployed_modes()))
    wanted = _chosen(scenarios, (), None, "scenario", problems)
    if nodes < 2:
        problems.append(f"{nodes} nodes: sharing needs at least 2")
    if not 0.05 <= every <= 60:
        problems.append(f"samples every {every:g} s: want 0.05 to 60")
    if history not in list(Detail):
        problems.append(f"unknown history {history!r}: known are {', '.join(Detail)}")
    if repeat is not None and not 1 <= repeat <= MOST_REPEATS:
        problems.append(f"repeat {repeat}: a kill can be made 1 to {MOST_REPEATS} times in a trial")
    if repeat is not None and repeat > 1 and target:
        problems.append(f"repeat {repeat}: each kill needs a fresh pod, and those of a target are not ours to replace")
    if budget < 100:
        problems.append(f"a budget of {budget} millicores: at least 100 are needed")
    if inconclusive not in list(Inconclusive):
        problems.append(f"unknown answer to inconclusive {inconclusive!r}: known are {', '.join(Inconclusive)}")
    if baseline is not None and not (Path(baseline).is_file() or (Path(baseline) / "report.json").is_file()):
        problems.append(f"baseline {baseline}: no report.json there")
    if image_archive is not None and not Path(image_archive).is_file():
        problems.append(f"image archive {image_archive}: no file there (`sharedfate image save FILE` writes one)")
    try:
        if _is_anothers(Path(out)):
            problems.append(
                f"run directory {out}: exists, and is none of an earlier run: take another with --chaos-out"
            )
    except OSError as error:
        problems.append(f"run directory {out}: {error.strerror}: take another with --chaos-out")
    if problems:
        raise Misuse("; ".join(problems))
    consent = Consent(allow_production, tuple(part.strip() for part in namespaces.split(",") if part.strip()))
    kind = KindOptions(
        node_image=kind_image or NODE_IMAGE,
        archive=Path(image_archive) if image_archive else None,
        workers=nodes,
        logs=Path(out) / "kind-logs",
    )
    if own:
        chosen, wanted = (own.name,), wanted or ON_TARGET
    return Settings(
        cluster,
        chosen,
        wanted,
        nodes,
        Path(out),
        budget,
        secrets.randbelow(2**31) if seed is None else seed,
        keep,
        Inconclusive(inconclusive),
        Path(baseline) if baseline else None,
        consent=consent,
        kind=kind,
        every=every,
        history=Detail(history),
        target=own,
        proxy_version=proxy_version.strip(),
        repeat=repeat or 0,
        mesh_install=mesh_install,
        trace=trace,
        topology=placed,
    )


def _chosen(
    text: str,
    default: tuple[str, ...],
    known: Sequence[str] | None,
    what: str,
    problems: list[str],
    *,
    all_of: Sequence[str] = (),
) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if names == (ALL,):
        return (ALL,) if known is None else tuple(all_of or known)
    if names == (DEFAULT_MATRIX,):
        return default
    problems += _unknown(names, known, what) if known is not None else []
    return names or default


def _unknown(names: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    return [
        f"unknown {what} {name!r}: known are {', '.join(known)}, all, default" for name in names if name not in known
    ]


def refuse_unknown(settings: Settings, known: Sequence[str]) -> None:
    """Raise Misuse that names every requested scenario that nothing defines."""
    if problems := _unknown([name for name in settings.scenarios if name != ALL], known, "scenario"):
        raise Misuse("; ".join(problems))


def chosen(settings: Settings, mode: str, scenario: str, *, shipped: bool = True) -> bool:
    """Whether a run takes that trial. Without named scenarios, a run takes those of the default matrix and all that the
    matrix does not know: every user scenario, and every scenario in a user's mode.
    """
    if mode not in settings.modes:
        return False
    if settings.scenarios:
        return settings.scenarios == (ALL,) or scenario in settings.scenarios
    return not shipped or mode not in known_modes() or in_matrix(mode, scenario)
