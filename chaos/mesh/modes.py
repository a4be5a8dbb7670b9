"""The modes of the reference mesh, shipped or the user's: a row and a folder each, without a fork.

An extension (`chaos.resources`) holds `modes/NAME/` with the manifests of a mode, as `manifests/modes` has them, and
`mode.yaml` with its row:

    stands-for: a proxy a node, by our own agent
    placed-by: [daemonset]        # of each kind of proxy on the path
    path:                         # what a request passes, in order
      - {scope: node, side: client, layers: [l4, l7]}
      - {scope: node, side: server, layers: [l4, l7]}

What runs in the cluster has no such folder: the row, and what the control plane fills in there, travel with the
manifests in the environment of our containers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from chaos import documents
from chaos.errors import Misuse
from chaos.fields import Fields
from chaos.model.modes import MODES, Balancing, Hop, Layer, PlacedBy, ProxyMode, Scope, Side, balancing_of
from chaos.resources import extension_folders

ROW: Final = "mode.yaml"
VARIABLE: Final = "SHAREDFATE_MODE_FILES"  # of our containers: name -> file -> text
_CARRIED: Final = (ROW, "waypoint.yaml")  # what is read in the cluster; the rest was applied
_KNOWN: Final = ("stands-for", "placed-by", "path", "balancing", "starts-first")


def known_modes() -> Mapping[str, ProxyMode]:
    """Return the modes that the reference mesh can be deployed in: the shipped ones, then the user's."""
    return {**MODES, **own_modes()}


def mode_named(name: str) -> ProxyMode:
    """Return the mode of that name; raises `Misuse` that lists the known ones."""
    known = MODES if name in MODES else known_modes()
    try:
        return known[name]
    except KeyError:
        raise Misuse(f"unknown proxy mode {name!r}: known are {', '.join(known)}") from None


def mode_file(mode: str, name: str) -> str | None:
    """Return the text of a file of a user's mode; None when it has none of that name, or the mode is not the user's."""
    return _texts().get(mode, {}).get(name)


def carried(mode: str) -> str:
    """Return what our containers are told of a mode in `VARIABLE`; "" for a shipped mode."""
    texts = _texts().get(mode)
    return json.dumps({mode: {name: texts[name] for name in _CARRIED if name in texts}}) if texts else ""


@cache
def own_modes() -> Mapping[str, ProxyMode]:
    """Return the user's modes, by name. Raises Misuse that names the file and every problem, or a name that is
    taken.
    """
    found = {}
    for name, texts in _texts().items():
        if name in MODES:
            raise Misuse(f"mode {name!r} of an extension already exists: choose another name")
        if ROW not in texts:
            raise Misuse(f"mode {name!r} of an extension: {ROW} is missing in its folder")
        found[name] = parse_mode(name, documents.parse_yaml(texts[ROW], source=f"modes/{name}/{ROW}"))
    return found


@cache
def _texts() -> Mapping[str, Mapping[str, str]]:
    """Mode -> file -> text: in a container of ours as it was told, elsewhere from the folders."""
    if told := os.environ.get(VARIABLE):
        found: dict[str, dict[str, str]] = json.loads(told)
        return found
    folders = [one for folder in extension_folders("modes") for one in sorted(folder.iterdir()) if one.is_dir()]
    texts: dict[str, dict[str, str]] = {}
    for folder in folders:
        if folder.name in texts:
            raise Misuse(f"mode {folder.name!r} of {folder} already exists, in another extension: choose another name")
        texts[folder.name] = {file.name: documents.read_text(file) for file in _manifests(folder)}
    return texts


def _manifests(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix == ".yaml" and file.is_file())


def parse_mode(name: str, value: Any) -> ProxyMode:
    """Parse a row of the table of modes from its file; raises one Misuse with every problem."""
    problems: list[str] = []
    top = Fields(value, "", problems, known=_KNOWN)
    hops = tuple(_hop(one, f"path[{i}]", problems) for i, one in enumerate(top.items("path")))
    given = [str(one) for one in top.items("placed-by")]
    placed = tuple(PlacedBy(one) for one in given if one in list(PlacedBy))
    if wrong := [one for one in given if one not in list(PlacedBy)]:
        top.wrong("placed-by", f"is {', '.join(wrong)}: known are {', '.join(PlacedBy)}")
    if not hops:
        top.wrong("path", "is empty: a mode without proxies is `none`")
    elif (kinds := len({(hop.layers, hop.scope) for hop in hops})) != len(given):
        top.wrong("placed-by", f"names {len(given)}, and the path has {kinds} kinds of proxy")
    scopes = {layer: hop.scope for hop in reversed(hops) for layer in hop.layers}
    balancing = top.text("balancing", default="", one_of=["", *Balancing])
    stands_for, starts_first = top.text("stands-for", default=""), top.flag("starts-first")
    if problems:
        raise Misuse(f"modes/{name}/{ROW}: {'; '.join(problems)}")
    return ProxyMode(
        name,
        scopes.get(Layer.L4),
        scopes.get(Layer.L7),
        placed,
        hops,
        Balancing(balancing) if balancing else balancing_of(hops),
        stands_for,
        starts_first,
    )


def _hop(value: Any, where: str, problems: list[str]) -> Hop:
    one = Fields(value, where, problems, known=("scope", "side", "layers"))
    scope = Scope(one.text("scope", one_of=[str(each) for each in Scope if each is not Scope.WAYPOINT]))
    side = Side(one.text("side", one_of=tuple(Side)))
    layers = [str(layer) for layer in one.items("layers")]
    if not layers or set(layers) - set(Layer):
        one.wrong("layers", f"is {layers}: want l4, l7 or both")
    return Hop(scope, side, frozenset(Layer(layer) for layer in layers if layer in list(Layer)))
