"""Reads a context from a kubeconfig without contacting anything: consent is asked before the first connection."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.documents import read_yaml, shown, understood
from chaos.errors import EnvironmentUnfit, Misuse
from chaos.kube.kubeconfig import one_line


@dataclass(frozen=True, slots=True)
class ContextFacts:
    """One context of a kubeconfig."""

    name: str
    cluster: str
    server: str
    user: str
    source: Path  # the file that holds the context


def kubeconfig_paths(kubeconfig: Path | None = None) -> tuple[Path, ...]:
    """The files that are read, in kubectl's order: the one given, else $KUBECONFIG, else ~/.kube/config."""
    if kubeconfig is not None:
        return (kubeconfig,)
    if named := os.environ.get("KUBECONFIG", ""):
        return tuple(Path(part) for part in named.split(os.pathsep) if part)
    return (Path.home() / ".kube" / "config",)


def merged_kubeconfig(paths: Sequence[Path]) -> Path:
    """The paths as the official client takes them: one path, joined as in $KUBECONFIG."""
    return Path(os.pathsep.join(map(str, paths)))


def context_facts(name: str, kubeconfig: Path | None = None) -> ContextFacts:
    """Return the context of that name. Raises EnvironmentUnfit without a kubeconfig, and Misuse that lists the known
    contexts.
    """
    paths = kubeconfig_paths(kubeconfig)
    found = [path for path in paths if path.is_file()]
    if not found:
        raise EnvironmentUnfit(
            f"no kubeconfig at {', '.join(map(str, paths))}: set KUBECONFIG, or write one with your cluster's tool"
        )
    with understood(", ".join(map(shown, found))):
        return _context(name, found)


def _context(name: str, found: Sequence[Path]) -> ContextFacts:
    contexts: dict[str, tuple[dict[str, Any], Path]] = {}
    clusters: dict[str, dict[str, Any]] = {}
    for path in found:
        document = _read(path)
        try:
            for entry in document.get("contexts") or []:
                contexts.setdefault(entry["name"], (dict(entry.get("context") or {}), path))
            for entry in document.get("clusters") or []:
                clusters.setdefault(entry["name"], dict(entry.get("cluster") or {}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EnvironmentUnfit(
                f"{path}: contexts and clusters should be lists of objects, each with its name: {one_line(error)}"
            ) from error
    if name not in contexts:
        known = ", ".join(sorted(map(str, contexts))) or "none"
        raise Misuse(f"no context {name!r} in {', '.join(map(str, found))}: known are {known}")
    context, path = contexts[name]
    cluster = str(context.get("cluster", ""))
    if not clusters.get(cluster, {}).get("server"):
        raise EnvironmentUnfit(f"{path}: context {name!r} names cluster {cluster!r}, which has no server there")
    return ContextFacts(
        name, cluster, str(clusters.get(cluster, {}).get("server", "")), str(context.get("user", "")), path
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = read_yaml(path)
    except Misuse as error:
        raise EnvironmentUnfit(f"cannot be read as a kubeconfig: {error}") from error
    if not isinstance(document, dict):
        raise EnvironmentUnfit(
            f"{path}: not a kubeconfig: holds a {type(document).__name__}, and should hold an object"
        )
    return document
