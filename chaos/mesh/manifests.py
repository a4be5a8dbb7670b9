"""Reads the YAML of manifests/ and fills in its `${names}`: the files are authoritative, the code holds no second
copy.

A scalar that is exactly `${name}` becomes the value itself (a number, a list); inside a longer one its text.
`$(NAME)`, which the kubelet expands, is left alone. Called by injection, the mesh's installation and the control plane.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from chaos import documents
from chaos.errors import Misuse
from chaos.mesh import modes
from chaos.names import DEFAULT_NAME, IMAGE, NAME
from chaos.resources import shipped

Object = dict[str, Any]
_NAME: Final = re.compile(r"\$\{([a-z0-9_]+)\}")
_OURS: Final = re.compile(rf"\b{DEFAULT_NAME}([.]io|-)")  # of labels, namespaces, names: not of the image
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read(file: Path) -> list[Object]:
    """The documents of a YAML file; raises Misuse that names the file and the line."""
    return parse(documents.read_text(file, most=documents.MOST_YAML_BYTES), source=documents.shown(file))


def read_all(path: Path) -> list[Object]:
    """The documents of a file, of every manifest below a folder in the order of their paths, or (`-`) of standard
    input; raises Misuse, also for a folder that holds none.
    """
    if str(path) == "-":
        return parse(sys.stdin.read(), source="standard input")
    if not path.is_dir():
        return read(path)
    files = sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml", ".json") and file.is_file())
    if not files:
        raise Misuse(f"{path}: no .yaml, .yml or .json file below that folder")
    return [obj for file in files for obj in read(file)]


def parse(text: str, *, source: str) -> list[Object]:
    """The objects of a YAML text, `kind: List` unfolded."""
    objects: list[Object] = []
    for document in filter(None, documents.parse_yaml_all(text, source=source)):
        whole = isinstance(document, dict) and str(document.get("kind", "")).endswith("List")
        parts = document["items"] if whole and isinstance(document.get("items"), list) else [document]
        for part in parts:
            if not isinstance(part, dict):
                raise Misuse(f"{source}: a document is a {type(part).__name__}, and should be an object")
            objects.append(part)
    return objects


def check(objects: Iterable[Object], *, source: str) -> None:
    """Raises one Misuse that lists every object without apiVersion, kind or name."""
    problems = [
        f"document {number}: {field} is missing"
        for number, obj in enumerate(objects, 1)
        for field, there in (
            ("apiVersion", obj.get("apiVersion")),
            ("kind", obj.get("kind")),
            ("metadata.name", (obj.get("metadata") or {}).get("name")),
        )
        if not there
    ]
    if problems:
        raise Misuse(f"{source}: {'; '.join(problems)}")


def fill(value: Any, values: Mapping[str, Any], *, source: str) -> Any:
    """A copy of a JSON-like value with its `${names}` filled in; raises Misuse that lists the ones without a value."""
    missing: set[str] = set()

    def one(text: str) -> Any:
        whole = _NAME.fullmatch(text)
        missing.update(name for name in _NAME.findall(text) if name not in values)
        if missing:
            return text
        return values[whole[1]] if whole else _NAME.sub(lambda found: str(values[found[1]]), text)

    def walk(node: Any) -> Any:
        if isinstance(node, str):
            return one(node)
        if isinstance(node, dict):
            return {one(key): walk(item) for key, item in node.items()}
        if isinstance(node, list):
            return [walk(item) for item in node]
        return node

    filled = walk(value)
    if missing:
        raise Misuse(f"{source}: no value for {', '.join(sorted(missing))}")
    return filled


def load(name: str, values: Mapping[str, Any]) -> list[Object]:
    """The filled documents of a file under manifests/, or of somebody's own mode; none when a mode has no such file."""
    filled = fill(unfilled(name), {"image": IMAGE, **values}, source=f"manifests/{name}")
    if (told := modes.carried(str(values.get("mode", "")))) and filled:
        filled = tell(filled, modes.VARIABLE, told)
    return [_text_values(obj) for obj in (filled if NAME == DEFAULT_NAME else renamed(filled, NAME))]


def unfilled(name: str) -> list[Object]:
    """The documents of a file under manifests/ with their `${names}`, or of somebody's own mode: `modes/MODE/FILE`."""
    file = shipped("manifests") / name
    if file.exists():
        return read(file)
    folder, _, rest = name.partition("/")
    mode, _, inside = rest.partition("/")
    text = modes.mode_file(mode, inside) if folder == "modes" else None
    return parse(text, source=name) if text else []


def tell(objects: Iterable[Object], name: str, value: str) -> list[Object]:
    """Return the objects with a variable set in their containers of our image. Pure."""

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        found = {key: walk(item) for key, item in node.items()}
        if found.get("image") == IMAGE:
            found["env"] = [*(found.get("env") or []), {"name": name, "value": value}]
        return found

    return [walk(obj) for obj in objects]


def renamed(objects: Iterable[Object], name: str) -> list[Object]:
    """Return the objects under another installation's name, with its containers told of it; paths inside them stay.
    Pure.
    """

    def walk(node: Any) -> Any:
        if isinstance(node, str):
            return _OURS.sub(rf"{name}\1", node)
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        return {walk(key): walk(item) for key, item in node.items()}

    return tell((walk(obj) for obj in objects), "SHAREDFATE_NAME", name)


def _text_values(obj: Object) -> Object:
    """Make labels and annotations texts, as in Kubernetes, whatever type `${name}` had."""
    for meta in _metadatas(obj):
        for field in ("labels", "annotations"):
            if field in meta:
                meta[field] = {key: str(value) for key, value in meta[field].items()}
    return obj


def _metadatas(node: Any) -> Iterable[Object]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "metadata" and isinstance(value, dict):
                yield value
            else:
                yield from _metadatas(value)
    elif isinstance(node, list):
        for item in node:
            yield from _metadatas(item)


def name_terms(nodes: Sequence[str]) -> list[dict[str, Any]]:
    """Return nodeSelectorTerms, any of which matches: one node each, because a field selector takes a single value."""
    return [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]} for name in nodes]


def tenant(
    name: str,
    *,
    client_nodes: Sequence[str],
    server_nodes: Sequence[str],
    clients: int = 1,
    servers: int = 2,
    client_cpu: int = 500,
    server_cpu: int = 300,
) -> list[Object]:
    """Return the reference apps of one tenant (manifests/apps/tenant.yaml), on the given nodes; CPU limits in
    millicores.
    """
    return load(
        "apps/tenant.yaml",
        {
            "tenant": name,
            "client_nodes": name_terms(client_nodes),
            "server_nodes": name_terms(server_nodes),
            "client_replicas": clients,
            "server_replicas": servers,
            "client_cpu": client_cpu,
            "server_cpu": server_cpu,
        },
    )


def open_policies(namespaces: Iterable[str], run: str) -> list[Object]:
    """Policies that open these namespaces, which are ours, whatever other policies shut there
    (manifests/network-policy.yaml).
    """
    return [obj for name in namespaces for obj in load("network-policy.yaml", {"namespace": name, "run": run})]


def job(
    name: str,
    *,
    tenant: str,
    nodes: Sequence[str],
    requests: int = 20,
    interval: float = 0.0,
    tries: int = 1,
    deadline_seconds: int = 60,
    spec: Mapping[str, Any] | None = None,
    restart: str = "Never",
) -> list[Object]:
    """Return a batch Job of a tenant (manifests/apps/job.yaml): that many requests, `interval` seconds apart, with that
    many tries each.

    Args:
        spec: fields of the Job's spec besides; by default it is tried again up to three times.
        restart: restartPolicy of its pods.
    """
    objects = load(
        "apps/job.yaml",
        {
            "name": name,
            "tenant": tenant,
            "nodes": name_terms(nodes),
            "requests": str(requests),
            "interval": str(interval),
            "tries": str(tries),
            "deadline_seconds": deadline_seconds,
            "restart": restart,
        },
    )
    for obj in objects:
        obj["spec"] |= {"backoffLimit": 3} if spec is None else spec
    return objects


def cron(name: str, *, tenant: str, nodes: Sequence[str], requests: int, interval: float, tries: int) -> list[Object]:
    """Return a CronJob that makes such a Job of a tenant every minute, unless the one before still works; its pods have
    the label `app` of its name.
    """
    found = []
    for made in job(name, tenant=tenant, nodes=nodes, requests=requests, interval=interval, tries=tries):
        made["spec"]["template"]["metadata"]["labels"]["app"] = name
        spec = {"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": made["spec"]}}
        found.append({**made, "kind": "CronJob", "spec": spec})
    return found


def closing(name: str, *, tenant: str, nodes: Sequence[str], last: float) -> list[Object]:
    """A client of a tenant that calls for `last` seconds after SIGTERM (manifests/apps/closing.yaml)."""
    return load("apps/closing.yaml", {"name": name, "tenant": tenant, "nodes": name_terms(nodes), "last": str(last)})


def leaving(name: str, *, tenant: str, nodes: Sequence[str], pre_stop: float) -> list[Object]:
    """Return a server of a tenant with two pods and a Service of that name (manifests/apps/leaving.yaml), which sleeps
    for `pre_stop` seconds before SIGTERM; 0: it has no such hook.
    """
    # By a command: kubelets older than 1.30 know no hook that sleeps by itself.
    hook = {"preStop": {"exec": {"command": ["sleep", f"{pre_stop:g}"]}}} if pre_stop else {}
    values = {"name": name, "tenant": tenant, "nodes": name_terms(nodes), "lifecycle": hook}
    return load("apps/leaving.yaml", values)


def plain(name: str, *, tenant: str, nodes: Sequence[str]) -> list[Object]:
    """Return a server of a tenant that takes raw TCP alone and has no waypoint, and a Service of that name
    (manifests/apps/plain.yaml).
    """
    return load("apps/plain.yaml", {"name": name, "tenant": tenant, "nodes": name_terms(nodes)})


def reader(name: str, *, tenant: str, nodes: Sequence[str]) -> list[Object]:
    """Return one more client of a tenant, which calls nobody until it is told to (manifests/apps/reader.yaml)."""
    return load("apps/reader.yaml", {"name": name, "tenant": tenant, "nodes": name_terms(nodes)})


def reference(first: str, second: str) -> list[Object]:
    """Return the reference topology on two nodes: a on the first, c on the second, b calls from the second to both."""
    return [
        *tenant("a", client_nodes=[first], server_nodes=[first]),
        *tenant("b", client_nodes=[second], server_nodes=[first, second]),
        *tenant("c", client_nodes=[second], server_nodes=[second]),
    ]


def dump(objects: Iterable[Object]) -> str:
    """Multi-document YAML, keys in the order given."""
    return str(yaml.dump_all(list(objects), Dumper=_DUMPER, sort_keys=False, explicit_start=True, width=120))
