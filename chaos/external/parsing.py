"""Reads mesh descriptions: the built-in ones of manifests/meshes, and those in target files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from chaos.errors import Misuse
from chaos.external.description import (
    ANY,
    Binding,
    ControlPlanePart,
    Enrolment,
    Feature,
    Installation,
    LoaderRule,
    Marks,
    MeshDescription,
    ModeRule,
    Prerequisite,
    Protocols,
    ProxyRule,
    Read,
    Reconfiguration,
    Skips,
    UnmodelledMark,
)
from chaos.external.views import FORMATS
from chaos.fields import Fields
from chaos.kube.ways import Way
from chaos.mesh import manifests
from chaos.mesh.handle import LogSign, NewPod
from chaos.model.modes import Balancing, Layer, PlacedBy, Scope, Side
from chaos.names import NAME
from chaos.resources import extension_folders, shipped

FOLDER: Final = "meshes"
_KNOWN: Final = (
    "name",
    "stands-for",
    "status",
    "detect",
    "balancing",
    "proxies",
    "path",
    "protocols",
    "loader",
    "refuses",
    "modes",
    "installation",
    "reply-headers",
    "log-signs",
)
_RULE: Final = (
    "name",
    "layers",
    "scope",
    "container",
    "pods",
    "optional",
    "carries",
    "assumes",
    "skips",
    "bound",
    "newest",
    "version-by",
    "limit-by",
    "held-by",
    "ports",
    "reads",
    "placed-by",
)
_MODE: Final = (
    "name",
    "stands-for",
    "path",
    "placed-by",
    "starts-first",
    "drains",
    "without",
    "features",
    "reconfiguration",
    "enrolment",
)
_LOADER: Final = ("labels", "annotations", "containers", "readiness-gates", "copied", "not-copied", "ports")
_MARKS: Final = ("labels", "annotations")


def parse_description(value: Any, *, source: str, where: str = "") -> MeshDescription:
    """Parse a description from a YAML mapping; raises one Misuse with every problem."""
    problems: list[str] = []
    top = Fields(value, where, problems, known=_KNOWN)
    prefix = f"{where}." if where else ""
    detect = top.inside("detect", known=("namespaces", "pods", "daemonset-pods"))
    rules = tuple(_rule(one, f"{prefix}proxies[{i}]", problems) for i, one in enumerate(top.items("proxies")))
    names = {rule.name for rule in rules}
    for rule in rules:
        if rule.binding and (unknown := [name for name in rule.binding.clients if name not in names]):
            top.wrong("proxies", f"{rule.name}.bound.clients has {', '.join(unknown)}, and there is no such proxy")
    balancing = top.text("balancing", default="", one_of=["", *Balancing])
    installation = _installation(top, prefix, problems)
    modes = [_mode(one, f"{prefix}modes[{i}]", problems, rules) for i, one in enumerate(top.items("modes"))]
    found = MeshDescription(
        name=top.text("name"),
        stands_for=top.text("stands-for", default="a mesh of yours"),
        status=top.text("status", default="described by you"),
        rules=rules,
        path=_path(top, names, needed=bool(rules)),
        balancing=Balancing(balancing) if balancing else None,
        namespaces=_marks(detect, "namespaces"),
        pods=_marks(detect, "pods"),
        daemons=detect.texts("daemonset-pods"),
        protocols=_protocols(top),
        loader=_loader(top),
        refusals=tuple(_refusal(one, f"{prefix}refuses[{i}]", problems) for i, one in enumerate(top.items("refuses"))),
        # Of what we deploy ourselves, every proxy has its share.
        modes=tuple(column for mode in modes for column in (mode.columns(rules) if installation.parts else (mode,))),
        installation=installation,
        reply_headers=_names(top, "reply-headers"),
        log_signs=_log_signs(top, prefix, problems),
    )
    if problems:
        raise Misuse(f"{source}: {'; '.join(problems)}")
    return found


def _names(fields: Fields, name: str) -> tuple[str, ...]:
    return tuple(map(str, fields.items(name)))


def _log_signs(fields: Fields, prefix: str, problems: list[str]) -> tuple[LogSign, ...]:
    found = []
    for i, value in enumerate(fields.items("log-signs")):
        one = Fields(value, f"{prefix}log-signs[{i}]", problems, known=("says", "means"))
        try:
            found.append(LogSign(re.compile(one.text("says")), one.text("means")))
        except re.error as error:
            one.wrong("says", f"is no regular expression: {error}")
    return tuple(found)


def _marks(fields: Fields, name: str, *beside: str) -> Marks:
    inside = fields.inside(name, known=(*_MARKS, *beside))
    return Marks(inside.texts("labels"), inside.texts("annotations"))


def _path(fields: Fields, names: set[str], *, needed: bool) -> tuple[tuple[str, Side], ...]:
    items = enumerate(fields.items("path", needed=needed))
    return tuple(step for i, text in items if (step := _step(fields, f"path[{i}]", str(text), names)))


def _step(fields: Fields, where: str, text: str, names: set[str]) -> tuple[str, Side] | None:
    """Parse a step of a path, `RULE@SIDE`."""
    name, _, side = text.partition("@")
    if name in names and side in list(Side):
        return name, Side(side)
    known = ", ".join(f"{rule}@{side}" for rule in sorted(names) for side in Side)
    fields.wrong(where, f"is {text!r}: known are {known}")
    return None


def _rule(value: Any, where: str, problems: list[str]) -> ProxyRule:
    top = Fields(value, where, problems, known=_RULE)
    pods = top.inside("pods", known=("namespace", "labels", "owner"))
    layers = [str(one) for one in top.items("layers", needed=True)]
    if unknown := [one for one in layers if one not in list(Layer)]:
        top.wrong("layers", f"has {', '.join(unknown)}: known are {', '.join(Layer)}")
    scope = Scope(top.text("scope", one_of=[one.value for one in Scope]))
    labels, owner = pods.texts("labels"), pods.text("owner", default="", one_of=["", "Pod"]) == "Pod"
    if (scope is not Scope.POD or owner) and not labels:
        top.wrong("pods.labels", f"is missing: without it no pod of a {scope}'s proxy can be told from others")
    binding = _binding(top) if "bound" in top.values else None
    if (scope is Scope.WAYPOINT) is not (binding is not None):
        top.wrong("bound", f"belongs to proxies of scope {Scope.WAYPOINT}, which cannot do without")
    placed = top.text("placed-by", default="", one_of=["", *PlacedBy])
    return ProxyRule(
        name=top.text("name"),
        layers=frozenset(Layer(one) for one in layers if one in list(Layer)),
        scope=scope,
        container=top.text("container"),
        namespace=pods.text("namespace", default=""),
        labels=labels,
        owner=owner,
        optional=top.values.get("optional") is True,
        carries=_marks(top, "carries", "namespace"),
        carries_in=_marks(top.inside("carries", known=(*_MARKS, "namespace")), "namespace"),
        assumes=top.text("assumes", default=""),
        skips=_skips(top),
        binding=binding,
        newest=top.values.get("newest") is True,
        version_by=top.text("version-by", default=""),
        limit_by=top.text("limit-by", default=""),
        held_by=top.text("held-by", default=""),
        ports=_numbers(top, "ports"),
        reads=_reads(top),
        placed=PlacedBy(placed) if placed else None,
    )


def _numbers(fields: Fields, name: str) -> tuple[int, ...]:
    found = fields.items(name)
    if any(isinstance(one, bool) or not isinstance(one, int) for one in found):
        fields.wrong(name, "should be a list of port numbers")
        return ()
    return tuple(found)


def _skips(fields: Fields) -> Skips:
    inside = fields.inside("skips", known=tuple(Side))
    ports: dict[Side, tuple[str, ...]] = {}
    only: dict[Side, tuple[str, ...]] = {}
    whole: dict[Side, Marks] = {}
    for side in Side:
        if side in inside.values:
            one = inside.inside(side, known=("ports", "only", "whole"))
            ports[side], only[side] = _names(one, "ports"), _names(one, "only")
            whole[side] = _marks(one, "whole")
    return Skips(ports, only, whole)


def _binding(fields: Fields) -> Binding:
    known = ("label", "namespace-label", "kind-label", "condition", "named-by", "clients", "ingress-label")
    one = fields.inside("bound", known=known)
    return Binding(
        label=one.text("label"),
        named_by=one.text("named-by"),
        namespace_label=one.text("namespace-label", default=""),
        kind_label=one.text("kind-label", default=""),
        condition=one.text("condition", default=""),
        clients=_names(one, "clients"),
        ingress_label=one.text("ingress-label", default=""),
    )


def _protocols(fields: Fields) -> Protocols:
    one = fields.inside("protocols", known=("bytes", "requests", "by-name", "ports", "usual-ports"))
    return Protocols(
        frozenset(_names(one, "bytes")),
        frozenset(_names(one, "requests")),
        one.flag("by-name"),
        one.text("ports", default=""),
        frozenset(_numbers(one, "usual-ports")),
    )


def _reads(fields: Fields) -> dict[str, Read]:
    inside = fields.inside("reads", known=("statistics", "configuration", "certificates"))
    found = {}
    for name in inside.values:
        one = inside.inside(name, known=("way", "port", "path", "command", "format", "counts"))
        way = Way(one.text("way", default=Way.PROXY.value, one_of=[way.value for way in Way]))
        found[str(name)] = Read(
            way,
            int(one.number("port", default=1)) if way is not Way.EXEC else 0,
            one.text("path", default="/"),
            _names(one, "command"),
            one.text("format", default="", one_of=["", *FORMATS]),
            _names(one, "counts"),
        )
        if (way is Way.EXEC) is not bool(found[str(name)].command):
            one.wrong("command", f"belongs to the way {Way.EXEC}, which cannot do without")
    return found


def _loader(fields: Fields) -> LoaderRule:
    one = fields.inside("loader", known=_LOADER)
    return LoaderRule(
        one.texts("labels"),
        one.texts("annotations"),
        _names(one, "containers"),
        _names(one, "readiness-gates"),
        _names(one, "copied"),
        _names(one, "not-copied"),
        one.text("ports", default=""),
    )


def _refusal(value: Any, where: str, problems: list[str]) -> UnmodelledMark:
    one = Fields(value, where, problems, known=("kind", "key", "value", "side", "why"))
    return UnmodelledMark(
        one.text("kind", one_of=["Pod", "Service", "Namespace"]),
        one.text("key"),
        one.text("why"),
        one.text("value", default=ANY),
        one.text("side", default="", one_of=["", *Side]),
    )


def _mode(value: Any, where: str, problems: list[str], rules: Sequence[ProxyRule]) -> ModeRule:
    top = Fields(value, where, problems, known=_MODE)
    names = {rule.name for rule in rules}
    placed = top.texts("placed-by")
    for name, how in placed.items():
        if name not in names or how not in list(PlacedBy):
            top.wrong(
                f"placed-by.{name}", f"is {how!r}: known are {', '.join(PlacedBy)}, of {', '.join(sorted(names))}"
            )
    without = top.texts("without")
    for name, what in without.items():
        if what not in list(NewPod):
            top.wrong(f"without.{name}", f"is {what!r}: known are {', '.join(NewPod)}")
    features = top.texts("features")
    for name in features:
        if name not in list(Feature):
            top.wrong(f"features.{name}", f"is not known here: known are {', '.join(Feature)}")
    return ModeRule(
        name=top.text("name"),
        path=_path(top, names, needed=False),
        stands_for=top.text("stands-for", default=""),
        placed={name: PlacedBy(how) for name, how in placed.items() if how in list(PlacedBy)},
        starts_first=top.values.get("starts-first") is True,
        drains=top.number("drains", default=0.0, low=0.0),
        without={name: NewPod(what) for name, what in without.items() if what in list(NewPod)},
        features={Feature(name): file for name, file in features.items() if name in list(Feature)},
        reconfiguration=_reconfiguration(top, rules) if "reconfiguration" in top.values else None,
        enrolment=_enrolment(top),
    )


def _reconfiguration(fields: Fields, rules: Sequence[ProxyRule]) -> Reconfiguration:
    one = fields.inside("reconfiguration", known=("objects", "hop", "page"))
    hop, page = _step(one, "hop", one.text("hop"), {rule.name for rule in rules}), one.text("page")
    pages = {name for rule in rules if hop and rule.name == hop[0] for name in rule.reads}
    if hop and page not in pages:
        one.wrong("page", f"is {page!r}, and of a {hop[0]} is read: {', '.join(sorted(pages)) or 'none'}")
    return Reconfiguration(one.text("objects"), hop or ("", Side.CLIENT), page)


def _enrolment(fields: Fields) -> Enrolment:
    known = (
        "namespaces",
        "pods",
        "services",
        "objects",
        "carried",
        "service-conditions",
        "object-conditions",
        "budget",
        "objects-unheld",
    )
    one = fields.inside("enrolment", known=known)
    return Enrolment(
        namespaces=_marks(one, "namespaces"),
        pods=_marks(one, "pods"),
        services=_marks(one, "services"),
        objects=one.text("objects", default=""),
        carried=_marks(one, "carried"),
        service_conditions=_names(one, "service-conditions"),
        object_conditions=one.texts("object-conditions"),
        budget=one.texts("budget"),
        objects_unheld=one.text("objects-unheld", default=""),
    )


def _installation(fields: Fields, prefix: str, problems: list[str]) -> Installation:
    known = ("parts", "version-label", "version-at", "command", "docs", "cli", "install", "uninstall", "needs")
    one = fields.inside("installation", known=known)
    parts = []
    for i, value in enumerate(one.items("parts")):
        part = Fields(value, f"{prefix}installation.parts[{i}]", problems, known=("name", "labels", "role"))
        parts.append(ControlPlanePart(part.text("name"), part.texts("labels"), part.text("role", default="")))
    return Installation(
        parts=tuple(parts),
        version_label=one.text("version-label", default=""),
        version_read=_version_at(one),
        command=one.text("command", default=""),
        docs=one.text("docs", default=""),
        cli=one.text("cli", default=""),
        install=_commands(one, "install"),
        uninstall=_commands(one, "uninstall"),
        needs=tuple(
            _prerequisite(value, f"{prefix}installation.needs[{i}]", problems)
            for i, value in enumerate(one.items("needs"))
        ),
    )


def _prerequisite(value: Any, where: str, problems: list[str]) -> Prerequisite:
    one = Fields(value, where, problems, known=("definition", "install", "uninstall"))
    return Prerequisite(one.text("definition"), _commands(one, "install"), _commands(one, "uninstall"))


def _version_at(fields: Fields) -> tuple[int, str] | None:
    if "version-at" not in fields.values:
        return None
    one = fields.inside("version-at", known=("port", "path"))
    return int(one.number("port", default=1)), one.text("path", default="/version")


def _commands(fields: Fields, name: str) -> tuple[tuple[str, ...], ...]:
    found = fields.items(name)
    if any(not isinstance(one, list) for one in found):
        fields.wrong(name, "should be a list of commands, each a list of words")
        return ()
    return tuple(tuple(map(str, one)) for one in found)


@cache
def descriptions() -> Mapping[str, MeshDescription]:
    """Return the descriptions known by name: the reference mesh's, the other shipped ones, and those of extensions."""
    found: dict[str, MeshDescription] = {}
    modes: dict[str, str] = {}
    for folder in [shipped("manifests") / FOLDER, *extension_folders("meshes")]:
        for file in sorted(folder.glob("*.yaml")):
            (document,) = manifests.renamed(manifests.read(file), NAME)
            one = parse_description(document, source=f"{folder.parent.name}/{FOLDER}/{file.name}")
            taken = [name for name in (one.name, *(mode.name for mode in one.modes)) if name in found or name in modes]
            if taken:
                raise Misuse(f"{file}: {', '.join(taken)} is described already: choose another name")
            modes |= {mode.name: one.name for mode in one.modes}
            found[one.name] = one
    return found


def built_in(name: str) -> MeshDescription:
    """Return the built-in description of that name, or the one that offers the mode of that name.

    Raises Misuse naming all that exist.
    """
    known = descriptions()
    for one in known.values():
        if name == one.name or name in {mode.name for mode in one.modes}:
            return one
    modes = [mode.name for one in known.values() for mode in one.modes]
    raise Misuse(
        f"unknown mesh {name!r}: known are {', '.join(known)} (or one of their modes: {', '.join(modes)}), auto, none, "
        "or a description of your own"
    )
