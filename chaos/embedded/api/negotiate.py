"""Content negotiation: what the Accept header asks for, and how the answer is written.

Two steps, as in Kubernetes: a route that can write none of the types answers 406 with a list; then the first clause
that can be served, with `as=Table` and `as=PartialObjectMetadata`, is chosen. Protobuf is never written: a client
that accepts nothing else gets JSON. Pure; called by the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from chaos.embedded.api.errors import StatusError, not_acceptable

if TYPE_CHECKING:
    import yaml

_JSON: Final = "application/json"
YAML: Final = "application/yaml"
_PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
_WRITTEN: Final = (_JSON, YAML, _PROTOBUF)
_TRANSFORMS: Final = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")


@dataclass(frozen=True, slots=True)
class Media:
    """The chosen form: a media type, and the clause of the header with its `as=`, empty for the plain object."""

    type: str = _JSON
    clause: str = ""
    pretty: bool = False  # JSON for a reader's eyes


def choose(header: str, *, text: bool = False, watching: bool = False) -> Media:
    """Choose the answer's form; raises StatusError 406. `text`: the route also writes plain text (a log)."""
    if not header.strip():
        return Media()
    clauses = [clause.strip() for clause in header.split(",")]
    offered = {*_WRITTEN, "*/*", *(("text/plain",) if text else ())}
    if not any(clause.partition(";")[0].strip() in offered for clause in clauses):
        listed = ", ".join(_WRITTEN)
        raise StatusError(406, f"406: Not Acceptable\n\nAvailable representations: {listed}", details={})
    for clause in sorted(clauses, key=_weight, reverse=True):
        kind, *more = (part.strip() for part in clause.split(";"))
        parameters = dict(part.partition("=")[::2] for part in more)
        if kind not in (*_WRITTEN, "*/*", "application/*") or not _serves(parameters, watching=watching):
            continue
        return Media(YAML if kind == YAML else _JSON, clause if "as" in parameters else "")
    raise not_acceptable(f"only the following media types are accepted: {', '.join(_WRITTEN)}")


def is_pretty(query: Mapping[str, str], agent: str) -> bool:
    """Whether to indent JSON: on request, or by default for interactive clients."""
    if asked := query.get("pretty", ""):
        return asked not in ("false", "0")
    return agent.startswith(("curl", "Wget", "Mozilla/5.0"))


def _weight(clause: str) -> float:
    for part in clause.split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _serves(parameters: Mapping[str, str], *, watching: bool) -> bool:
    if "as" not in parameters:
        return parameters.get("stream", "watch") == "watch" and (watching or "stream" not in parameters)
    kind, version, group = (parameters.get(name, "") for name in ("as", "v", "g"))
    return kind in _TRANSFORMS and group == "meta.k8s.io" and version in ("v1", "v1beta1")


@cache
def _dumper() -> type[yaml.SafeDumper]:
    """YAML as Kubernetes writes it: sorted keys, lists at their key's column, double quotes only where plain text would
    be ambiguous.
    """
    import yaml

    from chaos.embedded.api.decode import yaml_loader

    class Dumper(yaml.SafeDumper):
        pass

    resolvers = yaml_loader().yaml_implicit_resolvers | {
        first: [*yaml_loader().yaml_implicit_resolvers.get(first, []), *rules]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        ambiguous = value == "" or any(pattern.match(value) for _, pattern in resolvers.get(value[:1], []))
        style = '"' if ambiguous else "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def written(body: Any, media: Media) -> tuple[bytes, str]:
    """(an answer's bytes, its media type)."""
    if media.type != YAML:
        # Kubernetes' encoder ends a plain answer with a newline, and an indented one without
        return orjson.dumps(body, option=orjson.OPT_INDENT_2 if media.pretty else orjson.OPT_APPEND_NEWLINE), _JSON
    import yaml

    plain = orjson.loads(orjson.dumps(body))
    return yaml.dump(plain, Dumper=_dumper(), allow_unicode=True, width=1 << 30).encode(), YAML
