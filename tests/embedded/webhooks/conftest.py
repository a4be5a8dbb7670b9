"""A webhook server of our own behind a Service of the API server in this process, and how tests configure it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chaos.embedded.api.pki import Authority
from chaos.embedded.resources import ENDPOINT_SLICE, SERVICE
from chaos.errors import ApiError
from tests.embedded.api.conftest import World, cluster, config_map, namespace, world
from tests.embedded.webhooks.injector import Server

__all__ = ["cluster", "namespace", "world"]


@dataclass
class Hooks:
    """The injector, the Service that leads to it, and its authority."""

    world: World
    server: Server
    authority: Authority
    directory: Path

    @property
    def bundle(self) -> str:
        return base64.b64encode(self.authority.pem).decode()

    def client(self, path: str, **service: Any) -> dict[str, Any]:
        return {"caBundle": self.bundle, "service": {"name": "injector", "namespace": "hooks", "path": path, **service}}

    def webhook(self, path: str, *, name: str = "one.hooks.test", **more: Any) -> dict[str, Any]:
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
        return {
            "name": name,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "rules": [rule],
            "clientConfig": self.client(path),
            "timeoutSeconds": 2,
        } | more

    def noted(self, namespace: str, text: str) -> dict[str, str]:
        """The annotations of the last line of the audit log that holds the text, when it has been written."""

        def lines() -> list[str]:
            self.world.cluster.list("ConfigMap", namespace)  # the log is flushed with a later request
            written = (self.world.directory / "audit.jsonl").read_text().splitlines()
            return [one for one in written if text in one and namespace in one]

        self.world.cluster.wait("audit log", lines, every=0.2)
        found: dict[str, str] = json.loads(lines()[-1])["annotations"]
        return found

    @contextmanager
    def configured(self, *webhooks: dict[str, Any], sort: str = "Validating", name: str = "test") -> Iterator[None]:
        kind = f"{sort}WebhookConfiguration"
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "webhooks": list(webhooks),
        }
        path = f"/apis/admissionregistration.k8s.io/v1/{kind.lower()}s"
        once(self.world, "POST", path, body)
        try:
            yield
        finally:
            once(self.world, "DELETE", f"{path}/{name}")


def once(world: World, method: str, path: str, body: Any = None) -> Any:
    """One exchange: a 500 that is an answer is not asked for again."""
    response = world.cluster.open(method, path, body=None if body is None else json.dumps(body).encode())
    return json.loads(response.read())


@pytest.fixture(scope="session")
def hooks(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooks]:
    directory, authority = tmp_path_factory.mktemp("hooks"), Authority()
    server = Server(*files(directory, authority, "injector.hooks.svc"))
    server.start()
    world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hooks"}})
    service(world, "injector", server.port)
    yield Hooks(world, server, authority, directory)
    server.stop()


def files(directory: Path, authority: Authority, *names: str, addresses: tuple[str, ...] = ()) -> tuple[str, str]:
    """A serving certificate of the names, and its key."""
    pair = authority.issue("injector", names=names, addresses=addresses)
    certificate, key = directory / f"{names}.crt", directory / f"{names}.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return str(certificate), str(key)


def service(world: World, name: str, port: int | None) -> None:
    """A Service that leads to this machine's loopback, or to nothing; put beside validation, which forbids that."""
    address = f"10.96.77.{len(world.call(lambda: world.store.list(SERVICE, 'hooks'))) + 1}"
    body: dict[str, Any] = {
        "metadata": {"name": name, "namespace": "hooks"},
        "spec": {"type": "ClusterIP", "clusterIP": address, "ports": [{"port": 443, "protocol": "TCP"}]},
    }
    world.call(lambda: world.store.create(SERVICE, body))
    if port is not None:
        piece = {
            "metadata": {"name": name, "namespace": "hooks", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        }
        world.call(lambda: world.store.create(ENDPOINT_SLICE, piece))


_numbers = iter(range(1, 10_000))


def attempt(hooks: Hooks, namespace: str, **data: str) -> tuple[int, str]:
    """Create a ConfigMap: the answer's code and, of a refusal, its message."""
    body = config_map(f"attempt-{next(_numbers)}", namespace, **data)
    try:
        once(hooks.world, "POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    except ApiError as error:
        return error.code, error.status["message"]
    return 201, ""


def rule(**change: Any) -> dict[str, Any]:
    return {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]} | change
