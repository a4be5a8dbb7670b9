"""Consent and the guard: what is refused before the first connection, and before each write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster.consent import Consent, detect_production, plan_touched, refuse_production
from chaos.cluster.contexts import ContextFacts, context_facts, kubeconfig_paths
from chaos.cluster.providers import ClusterSpec, Kind, parse_spec
from chaos.cluster.versions import parse_version, refuse_too_old
from chaos.errors import EnvironmentUnfit, Misuse, NotFound
from chaos.kube.write_guard import WriteGuard, split_path
from chaos.names import LABEL_RUN


def facts(
    name: str = "staging", cluster: str = "c", server: str = "https://10.0.0.1", user: str = "me"
) -> ContextFacts:
    return ContextFacts(name, cluster, server, user, Path("config"))


@pytest.mark.parametrize(
    "name", ["prod", "eu-prod-1", "production", "arn:aws:eks:eu:1:cluster/live", "PRD_a", "gke_x_prod2"]
)
def test_a_name_of_production_is_seen(name: str) -> None:
    assert detect_production(facts(name))
    assert detect_production(facts(server=f"https://{name}.example"))


@pytest.mark.parametrize(
    "name", ["staging", "product-demo", "reproduce", "kind-a", "alive", "delivery", "preprod-less", "nonprods"]
)
def test_a_name_that_only_holds_the_letters_is_not(name: str) -> None:
    assert detect_production(facts(name)) == []


def test_a_nodes_label_tells_too() -> None:
    node = {
        "kind": "Node",
        "metadata": {"name": "n1", "labels": {"company.example/environment": "production", "zone": "prod"}},
    }
    assert detect_production(facts(), [node]) == ["Node n1 is labelled company.example/environment=production"]


def test_production_is_refused_without_the_second_option_and_taken_with_it() -> None:
    with pytest.raises(Misuse, match=r"looks like production.*--chaos-allow-production"):
        refuse_production(facts("eu-prod"), Consent())
    refuse_production(facts("eu-prod"), Consent(production=True))


def test_what_will_be_touched_names_server_user_label_and_listed_namespaces() -> None:
    text = "\n".join(plan_touched(facts(), Consent(namespaces=("shop",))))
    for part in ("https://10.0.0.1", "as me", LABEL_RUN, "privileged", "shop", "touches no other namespace"):
        assert part in text


def write_config(path: Path, **contexts: str) -> Path:
    path.write_text(
        json.dumps(
            {
                "contexts": [
                    {"name": name, "context": {"cluster": cluster, "user": "u"}} for name, cluster in contexts.items()
                ],
                "clusters": [
                    {"name": cluster, "cluster": {"server": f"https://{cluster}"}} for cluster in contexts.values()
                ],
            }
        )
    )
    return path


def test_a_context_is_found_in_any_file_of_kubeconfig_and_the_first_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = write_config(tmp_path / "1", a="first"), write_config(tmp_path / "2", a="second", b="other")
    monkeypatch.setenv("KUBECONFIG", f"{one}:{two}")
    assert kubeconfig_paths() == (one, two)
    assert context_facts("a").server == "https://first"
    assert context_facts("b").source == two


def test_an_unknown_context_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"no context 'c'.*known are a, b"):
        context_facts("c", write_config(tmp_path / "config", a="x", b="y"))


def test_no_kubeconfig_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnfit, match=f"no kubeconfig at {tmp_path}/none"):
        context_facts("a", tmp_path / "none")


def test_a_context_has_to_be_named() -> None:
    with pytest.raises(Misuse, match="context:NAME"):
        parse_spec("context:")
    assert parse_spec("context:arn:aws:x") == ClusterSpec(Kind.CONTEXT, "arn:aws:x")
    assert parse_spec("kind") == ClusterSpec(Kind.KIND, "sharedfate")
    assert parse_spec("kind:two") == ClusterSpec(Kind.KIND, "two")


@pytest.mark.parametrize(
    ("answer", "version"), [({"major": "1", "minor": "29+"}, (1, 29)), ({"major": "1", "minor": "37"}, (1, 37))]
)
def test_versions_are_read_as_clouds_write_them(answer: dict[str, str], version: tuple[int, int]) -> None:
    assert parse_version(answer) == version
    refuse_too_old(version)


def test_an_old_version_and_no_version_are_refused() -> None:
    with pytest.raises(EnvironmentUnfit, match=r"at least 1.29"):
        refuse_too_old((1, 28))
    with pytest.raises(EnvironmentUnfit, match="names no version"):
        parse_version({"message": "welcome"})


OURS, THEIRS = {"metadata": {"labels": {LABEL_RUN: "r"}}}, {"metadata": {"labels": {"app": "shop"}}}


class Objects:
    """A cluster's objects by path, and how often they were looked at."""

    def __init__(self, **found: dict[str, Any]) -> None:
        self.found = {f"/api/v1/namespaces/{name.replace('_', '-')}": obj for name, obj in found.items()}
        self.reads: list[str] = []

    def __call__(self, path: str) -> dict[str, Any]:
        self.reads.append(path)
        if path not in self.found:
            raise NotFound("no", code=404)
        return self.found[path]


def test_a_write_to_a_strangers_namespace_is_refused_and_a_read_is_not() -> None:
    guard = WriteGuard(Objects(shop=THEIRS, tenant_a=OURS))
    guard.check("GET", "/api/v1/namespaces/shop/pods")
    guard.check("POST", "/api/v1/namespaces/tenant-a/pods")
    for method, path in (
        ("POST", "/api/v1/namespaces/shop/pods"),
        ("DELETE", "/api/v1/namespaces/shop"),
        ("PATCH", "/apis/apps/v1/namespaces/shop/deployments/web"),
        ("POST", "/api/v1/namespaces/shop/pods/x/proxy/flows"),
    ):
        with pytest.raises(Misuse, match="namespace 'shop' is not ours"):
            guard.check(method, path)


def test_a_listed_namespace_may_be_changed_and_never_deleted() -> None:
    guard = WriteGuard(Objects(shop=THEIRS), listed=["shop"])
    guard.check("PATCH", "/api/v1/namespaces/shop")
    guard.check("DELETE", "/api/v1/namespaces/shop/pods/x")
    with pytest.raises(Misuse):
        guard.check("DELETE", "/api/v1/namespaces/shop")


def test_a_namespace_is_looked_at_afresh_before_it_is_deleted() -> None:
    objects = Objects(tenant_a=OURS)
    guard = WriteGuard(objects)
    guard.check("POST", "/api/v1/namespaces/tenant-a/pods")
    objects.found["/api/v1/namespaces/tenant-a"] = THEIRS  # deleted, and made anew by somebody
    with pytest.raises(Misuse):
        guard.check("DELETE", "/api/v1/namespaces/tenant-a")


def test_what_is_not_there_is_not_remembered_as_ours() -> None:
    objects = Objects()
    guard = WriteGuard(objects)
    guard.check("POST", "/api/v1/namespaces/late/pods")  # the API server answers 404 itself
    objects.found["/api/v1/namespaces/late"] = THEIRS
    with pytest.raises(Misuse):
        guard.check("POST", "/api/v1/namespaces/late/pods")


def test_cluster_wide_objects_need_the_label_to_be_made_and_to_be_removed() -> None:
    objects = Objects()
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    objects.found[f"{path}/view"] = THEIRS
    objects.found[f"{path}/ours"] = OURS
    guard = WriteGuard(objects)
    guard.check("POST", path, json.dumps(OURS).encode())
    guard.check("DELETE", f"{path}/ours")
    with pytest.raises(Misuse, match="clean-up would not find it"):
        guard.check("POST", path, json.dumps(THEIRS).encode())
    with pytest.raises(Misuse, match="not ours"):
        guard.check("DELETE", f"{path}/view")
    with pytest.raises(Misuse, match="clean-up"):
        guard.check("POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": "x"}}).encode())


def test_questions_and_dry_runs_store_nothing_and_pass() -> None:
    guard = WriteGuard(Objects(default=THEIRS))
    guard.check("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", b"{}")
    guard.check("POST", "/api/v1/namespaces/default/pods", b"{}", {"dryRun": "All"})
    with pytest.raises(Misuse):
        guard.check("POST", "/api/v1/namespaces/default/pods", b"{}", {"dryRun": ""})


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/api/v1/namespaces", ("", "")),
        ("/api/v1/namespaces/a", ("a", "")),
        ("/api/v1/nodes/n", ("", "")),
        ("/apis/apps/v1/namespaces/a/deployments/b", ("a", "deployments/b")),
        ("/api/v1/namespaces/a/pods/p:80/proxy/namespaces/b", ("a", "pods/p:80/proxy/namespaces/b")),
        ("/api/v1/nodes/n/proxy/namespaces/b", ("", "")),
    ],
)
def test_a_paths_namespace_is_the_first_one(path: str, parts: tuple[str, str]) -> None:
    assert split_path(path) == parts
