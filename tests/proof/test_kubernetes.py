"""What the real Kubernetes is made of: its module, its nodes' configurations, its certificates. That it runs, `make
real-kubernetes` shows.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509

from proof.kubernetes.build import HELD, KUBERNETES, PACKAGES, module_file, read_requirements
from proof.kubernetes.cluster import CONTROL_PLANE, NODES, address, daemons, network_file, node_files, pod_range
from proof.kubernetes.gotypes import HELD as GO_TYPES
from proof.kubernetes.gotypes import MODULES, as_file
from proof.kubernetes.gotypes import module_file as types_module
from proof.kubernetes.pki import Authority, kubeconfig
from proof.kubernetes.published import HELD as PUBLISHED
from proof.kubernetes.published import as_lines, columns, default_roles, discovered, extras

# As Kubernetes' own go.mod has them.
GO_MOD = """module k8s.io/kubernetes

require (
	github.com/spf13/cobra v1.10.0
	golang.org/x/net v0.49.0
	golang.org/x/sys v0.40.0 // indirect
	k8s.io/api v0.0.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/kubelet => ./staging/src/k8s.io/kubelet
)
"""


def test_staging_modules_become_their_releases_and_what_is_held_is_as_kubernetes_has_it() -> None:
    staging, held = read_requirements(GO_MOD)
    assert staging == ["k8s.io/api", "k8s.io/kubelet"]
    assert held == {"golang.org/x/net": "v0.49.0", "golang.org/x/sys": "v0.40.0"}
    text = module_file(staging, held)
    release = f"v0.{KUBERNETES.partition('.')[2]}"
    assert f"\tk8s.io/kubelet => k8s.io/kubelet {release}\n" in text
    assert "\tgolang.org/x/net => golang.org/x/net v0.49.0\n" in text
    assert "./" not in text
    assert len(set(HELD)) == len(HELD)


def test_every_program_of_a_node_is_compiled() -> None:
    compiled = {package.rpartition("/")[2] for package in PACKAGES}
    for node in NODES:
        assert {one.name for one in daemons(node, Path("/home"), Path("/programs"))} <= compiled
        plugins = json.loads(network_file(node))["plugins"]
        assert {plugin["type"] for plugin in plugins} | {"host-local", "loopback"} <= compiled


def test_the_control_plane_alone_is_tainted_and_pods_ranges_are_apart() -> None:
    for node in NODES:
        files = node_files(node, Path("/home"), Path("/programs"))
        kubelet = yaml.safe_load(files["kubelet.yaml"])
        assert ("registerWithTaints" in kubelet) is (node == CONTROL_PLANE)
        assert kubelet["failCgroupV1"] is False
        assert yaml.safe_load(files["kube-proxy.yaml"])["mode"] == "nftables"
        assert pod_range(node) in network_file(node)
    assert len({pod_range(node) for node in NODES} | {address(node) for node in NODES}) == 2 * len(NODES)


def test_a_certificate_names_its_user_its_groups_and_its_hosts() -> None:
    authority = Authority.new()
    pair = authority.issue("system:node:n", "system:nodes", hosts=("n", "10.90.0.1"))
    found = x509.load_pem_x509_certificate(pair.certificate)
    assert found.subject.rfc4514_string() == "CN=system:node:n,O=system:nodes"
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one.value) for one in names] == ["n", "10.90.0.1"]
    found.verify_directly_issued_by(authority.certificate)
    document = yaml.safe_load(kubeconfig("https://127.0.0.1:1", authority.pem, pair, name="x"))
    assert document["current-context"] == "x"
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", document["users"][0]["user"]["client-key-data"])


def test_what_go_types_tell_is_asked_of_the_same_release_and_written_one_struct_a_line() -> None:
    module = types_module()
    assert all(f"\tk8s.io/{name} v0.{KUBERNETES.partition('.')[2]}\n" in module for name in MODULES)
    for path in GO_TYPES.values():
        held = path.read_text()
        assert as_file(dict(reversed(json.loads(held).items()))) == held
    shapes = json.loads(GO_TYPES["go"].read_text())
    assert shapes["core.v1.Container"]["types"]["imagePullPolicy"] == "v1.PullPolicy"
    assert "hostPort" in shapes["core.v1.ContainerPort"]["zero"]


def test_what_is_published_is_written_as_it_is_held() -> None:
    for name in ("published", "columns", "openapi", "roles"):
        held = (PUBLISHED / f"{name}.json").read_text()
        assert as_lines(json.loads(held)) == held


def test_of_what_a_server_publishes_the_missing_is_kept() -> None:
    pods = {"resource": "pods", "responseKind": {"group": "", "version": "", "kind": "Pod"}, "verbs": ["list"]}
    policy = {
        "description": "Restart policy for all containers within the pod.",
        "type": "string",
        "default": "x",
        "enum": ["A"],
    }
    column = {"name": "Name", "type": "string", "format": "name", "priority": 0, "description": "brief"}
    meta = {"name": "r", "uid": "1", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}
    answers: dict[str, Any] = {
        "/api": {
            "items": [
                {
                    "metadata": {},
                    "versions": [{"version": "v1", "resources": [pods]}, {"version": "v1beta1", "resources": []}],
                }
            ]
        },
        "/apis": {"items": []},
        "/api/v1/pods?limit=1": {"columnDefinitions": [column]},
        "/openapi/v3/api/v1": {
            "components": {"schemas": {"io.k8s.api.core.v1.PodSpec": {"properties": {"restartPolicy": policy}}}}
        },
    }

    def get(path: str, accept: str) -> Any:
        return answers.get(path) or {"items": [{"metadata": meta, "rules": []}, {"metadata": {"labels": {}}}]}

    groups = discovered(get)
    assert groups == [{"name": "", "versions": [{"version": "v1", "resources": [pods]}]}]
    assert columns(get, groups) == {"Pod": [["Name", "string", "name", 0, "brief"]]}
    assert extras(get, groups)["io.k8s.api.core.v1.PodSpec"] == {"restartPolicy": {"default": "x", "enum": ["A"]}}
    assert default_roles(get)[0] == {
        "kind": "ClusterRole",
        "metadata": {"name": "r", "labels": meta["labels"]},
        "rules": [],
    }
