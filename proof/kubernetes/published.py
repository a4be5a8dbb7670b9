"""What a real Kubernetes publishes about itself, as data: `python -m proof.kubernetes.published --kubeconfig F`.

Asked of a kube-apiserver of the release that the embedded cluster answers as, with its controller manager (which fills
aggregated roles in), and nothing installed. Writes files of chaos/embedded/api:

- published.json: groups, versions and resources, as aggregated discovery; stable versions only;
- columns.json: the columns of `kubectl get`, by kind; "" is for kinds without columns of their own (for a Scale's, a
  Deployment without pods is made and deleted again);
- openapi.json: defaults and lists of values, by definition and field, which the schemas in use lack;
- roles.json: the default roles and bindings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kubernetes import config

from chaos.embedded.api import schema as schemas
from chaos.errors import EnvironmentUnfit, SharedfateError
from proof.kubernetes.gotypes import ROOT

HELD: Final = ROOT / "chaos" / "embedded" / "api"
DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
SCALED: Final = "published-columns"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
PLAIN: Final = ("Name", "Created At")  # columns of kinds that print none of their own
Get = Callable[[str, str], Any]  # path and Accept -> the answer's JSON
Json = dict[str, Any]


def discovered(get: Get) -> list[Json]:
    """The groups with their stable versions, the core group first."""
    return [
        {"name": item["metadata"].get("name", ""), "versions": versions}
        for path in ("/api", "/apis")
        for item in get(path, DISCOVERY)["items"]
        if (versions := [_version(one) for one in item["versions"] if one["version"].lstrip("v").isdigit()])
    ]


def _version(one: Json) -> Json:
    return {"version": one["version"], "resources": one["resources"]}


def columns(get: Get, groups: Iterable[Json]) -> Json:
    """By kind: name, type, format, priority and description, or the definition's field that has that description."""
    found: Json = {}
    for group in groups:
        for version in group["versions"]:
            base = f"/apis/{group['name']}" if group["name"] else "/api"
            for one in version["resources"]:
                kind = one["responseKind"]["kind"]
                if kind in found or "list" not in one["verbs"]:
                    continue
                table = get(f"{base}/{version['version']}/{one['resource']}?limit=1", TABLE)
                held = _columns(table)
                if [column[0] for column in held] == list(PLAIN):
                    found[""] = held
                else:
                    found[kind] = held
    return found


def _columns(table: Json) -> list[Any]:
    return [_column(column) for column in table["columnDefinitions"]]


def _column(column: Json) -> list[Any]:
    said = column["description"]
    return [column["name"], column["type"], column["format"], column["priority"], _source(said) or said]


def _source(description: str) -> list[str] | None:
    """The first definition and field of that description, the metadata's own before others."""
    return _sources().get(description)


def _sources() -> Mapping[str, list[str]]:
    if not _SOURCES:
        names = sorted(schemas.definitions(), key=lambda name: (not name.endswith(".ObjectMeta"), name))
        for name in names:
            for field, about in (schemas.definitions()[name].get("properties") or {}).items():
                if len(said := about.get("description", "")) > 60:
                    _SOURCES.setdefault(said, [name.removeprefix("io.k8s."), field])
    return _SOURCES


_SOURCES: dict[str, list[str]] = {}


def extras(get: Get, groups: Iterable[Json]) -> Json:
    """By definition and field: `default`, `enum`, `told` (what its description says besides, of the values), `items`
    (the same of a list's items or a map's values). Under "" what a definition without fields says of itself.
    """
    found: Json = {}
    for group in groups:
        for version in group["versions"]:
            path = f"apis/{group['name']}" if group["name"] else "api"
            document = get(f"/openapi/v3/{path}/{version['version']}", "application/json")
            for name, schema in document["components"]["schemas"].items():
                if more := _extras(schema, schemas.definitions().get(name, {})):
                    found[name] = more
    return found


def _extras(schema: Json, held: Mapping[str, Any]) -> Json:
    if "properties" not in schema:
        itself = {key: value for key, value in schema.items() if key != "type" and held.get(key) != value}
        return {"": itself} if held and itself else {}
    fields = held.get("properties", {})
    found = {name: _extra(about, fields.get(name, {})) for name, about in schema["properties"].items()}
    return {name: more for name, more in found.items() if more}


def _extra(about: Json, held: Mapping[str, Any]) -> Json:
    more: Json = {key: about[key] for key in ("default", "enum") if key in about}
    said, known = about.get("description", ""), held.get("description", "")
    if said != known and said.startswith(known):
        more["told"] = said.removeprefix(known)
    for key in ("items", "additionalProperties"):
        if isinstance(about.get(key), dict) and (inside := _extra(about[key], held.get(key, {}))):
            more["items"] = inside
    return more


def default_roles(get: Get) -> list[Json]:
    """The roles and bindings that every cluster begins with, as they are created."""
    found: list[Json] = []
    for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
        listed = get(f"/apis/rbac.authorization.k8s.io/v1/{kind.lower()}s", "application/json")["items"]
        found += [_role(kind, one) for one in listed if "kubernetes.io/bootstrapping" in one["metadata"]["labels"]]
    return found


def _role(kind: str, one: Json) -> Json:
    meta = {
        key: one["metadata"][key] for key in ("name", "namespace", "labels", "annotations") if key in one["metadata"]
    }
    rest = {key: value for key, value in one.items() if key not in ("metadata", "kind", "apiVersion")}
    return {"kind": kind, "metadata": meta, **rest}


def as_lines(value: Json | list[Json]) -> str:
    """One entry a line, so that the next release is a readable difference. Pure."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(_line(one) for one in value) + "\n]\n"
    return "{\n" + ",\n".join(f"{json.dumps(key)}:{_line(one)}" for key, one in sorted(value.items())) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def read_published(get: Get, scale: str) -> Mapping[str, str]:
    """File -> its text; `scale` is the path of any Scale."""
    groups = discovered(get)
    return {
        "published": as_lines(groups),
        "columns": as_lines(columns(get, groups) | {"Scale": _columns(get(scale, TABLE))}),
        "openapi": as_lines(extras(get, groups)),
        "roles": as_lines(default_roles(get)),
    }


class _Server:
    """The API server of a kubeconfig."""

    def __init__(self, kubeconfig: str | None) -> None:
        self._api = config.new_client_from_config(kubeconfig)

    def ask(self, path: str, accept: str = "application/json", *, method: str = "GET", body: Json | None = None) -> Any:
        """The JSON of an answer; ApiException for a refusal."""
        headers = {"Accept": accept, "Content-Type": "application/json"}
        method, url, headers, sent, *_ = self._api.param_serialize(
            method, path, {}, [], headers, body, auth_settings=["BearerToken"]
        )
        answer = self._api.call_api(method, url, headers, sent)
        found = json.loads(answer.read())
        if answer.status >= 400:
            raise EnvironmentUnfit(f"{method} {path} was answered with {answer.status}: {found.get('message')}")
        return found


@contextmanager
def _scalable(server: _Server) -> Iterator[str]:
    """A Deployment without pods; yields the path of its Scale."""
    deployments, labels = "/apis/apps/v1/namespaces/default/deployments", {"app": SCALED}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "none"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    server.ask(deployments, method="POST", body={"metadata": {"name": SCALED}, "spec": spec})
    try:
        yield f"{deployments}/{SCALED}/scale"
    finally:
        server.ask(f"{deployments}/{SCALED}", method="DELETE")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", help="of the cluster that is asked; otherwise as kubectl finds it")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a file would change")
    options = parser.parse_args()
    try:
        server = _Server(options.kubeconfig)
        with _scalable(server) as scale:
            texts = read_published(server.ask, scale)
    except SharedfateError as error:
        print(f"proof.kubernetes.published: {error}", file=sys.stderr)
        return 4
    changed = [name for name, text in texts.items() if _held(name) != text]
    for name in changed:
        print(f"{name}.json {'would change' if options.check else 'changed'}")
        if not options.check:
            _path(name).write_text(texts[name])
    return int(options.check and bool(changed))


def _path(name: str) -> Path:
    return HELD / f"{name}.json"


def _held(name: str) -> str:
    return _path(name).read_text() if _path(name).exists() else ""


if __name__ == "__main__":
    sys.exit(main())
