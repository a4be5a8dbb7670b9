"""Ways to more rights than one has: each is refused, and each is fine for whoever holds what it takes."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.embedded.api.escalation import plan_impersonation
from chaos.errors import ApiError
from chaos.kube.client import Cluster
from tests.embedded.api.conftest import World

RBAC = "rbac.authorization.k8s.io"
WRITE = ["create", "update", "patch", "get", "list", "delete", "deletecollection"]
KINDS = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
PLURAL = {kind: kind.lower() + "s" for kind in KINDS}
EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
_numbers = iter(range(1, 10**6))


def made(kind: str, name: str, namespace: str, **more: Any) -> dict[str, Any]:
    meta = {"name": name} | ({} if kind.startswith("Cluster") else {"namespace": namespace})
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": meta, **more}


def rule(resources: list[str], verbs: list[str], groups: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {"apiGroups": groups or [""], "resources": resources, "verbs": verbs, **more}


def clerk(world: World, *rules: dict[str, Any]) -> Cluster:
    """Somebody who may write every kind of role and binding, and reads pods: cluster-wide."""
    name = f"clerk-{next(_numbers)}"
    own = [rule(list(PLURAL.values()), WRITE, [RBAC]), rule(["pods", "pods/log"], ["get", "list"]), *rules]
    own += [rule(["configmaps"], ["get"], resourceNames=names) for names in (["one"], [""])]
    own += [{"nonResourceURLs": ["/metrics", "/logs/*"], "verbs": ["get"]}]
    world.cluster.create(made("ClusterRole", name, "", rules=own))
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
    subjects = [{"kind": "User", "name": name}]
    world.cluster.create(made("ClusterRoleBinding", name, "", roleRef=reference, subjects=subjects))
    return world.user(name)


def path(kind: str, namespace: str, name: str = "") -> str:
    where = "" if kind.startswith("Cluster") else f"/namespaces/{namespace}"
    return f"/apis/{RBAC}/v1{where}/{PLURAL[kind]}" + (f"/{name}" if name else "")


# Rules that the clerk does not hold.
MORE: list[dict[str, Any]] = [
    EVERYTHING,
    rule(["secrets"], ["get"]),
    rule(["pods"], ["get", "delete"]),
    rule(["pods"], ["*"]),
    rule(["*"], ["get"]),
    rule(["pods/exec"], ["get"]),
    rule(["*/log"], ["get"]),
    rule(["pods"], ["get"], ["apps"]),
    rule(["pods"], ["get"], ["*"]),
    rule(["secrets"], ["get"], resourceNames=["one"]),
    rule(["pods", "secrets"], ["list"]),
    rule(["clusterroles"], ["escalate"], [RBAC]),
    rule(["clusterroles"], ["bind"], [RBAC]),
    rule(["users", "groups", "serviceaccounts"], ["impersonate"]),
    rule(["serviceaccounts/token"], ["create"]),
    rule(["pods/*"], ["get"]),
    rule(["Pods"], ["get"]),
    rule(["pods"], ["GET"]),
    rule(["nodes/proxy"], ["get"]),
    rule(["pods"], ["get"], ["", "apps"]),
    rule(["certificatesigningrequests/approval"], ["update"], ["certificates.k8s.io"]),
    rule(["signers"], ["approve"], ["certificates.k8s.io"]),
    rule(["configmaps"], ["get"]),  # held of one name, and of the empty name
    rule(["configmaps"], ["get"], resourceNames=["one", "another"]),
    rule(["configmaps"], ["list"], resourceNames=["one"]),
    rule(["configmaps"], ["*"], resourceNames=["one"]),
    rule(["configmaps/status"], ["get"], resourceNames=["one"]),
    rule(["*"], ["get"], resourceNames=["one"]),
    rule(["configmaps"], ["get"], ["*"], resourceNames=["one"]),
    rule(["pods/log", "pods/exec"], ["get"]),
    rule(["*/*"], ["get"]),
    rule(["pods/"], ["get"]),
    rule(["/log"], ["get"]),
    rule(["pods/log/x"], ["get"]),
    rule(["pods/ephemeralcontainers"], ["update"]),
    rule(["pods/binding"], ["create"]),
    rule(["pods"], ["get", "list", "watch"]),
    rule(["pods"], ["get "]),
    rule(["roles"], ["*"], [RBAC]),
    rule(["roles", "clusterroles"], ["bind", "escalate"], [RBAC], resourceNames=["view"]),
    rule(["*"], ["impersonate"]),
    rule(["groups"], ["impersonate"], resourceNames=["system:masters"]),
    rule(["userextras/scopes"], ["impersonate"], ["authentication.k8s.io"]),
    rule(["roles"], ["create"], [f"{RBAC}.evil.org"]),
    rule(["roles"], ["create"], ["RBAC.authorization.k8s.io"]),
    rule(["pods"], ["get"], ["", "*"]),
]
URLS: list[dict[str, Any]] = [  # of a ClusterRole; the clerk holds /metrics and /logs/*
    {"nonResourceURLs": urls, "verbs": verbs}
    for urls, verbs in (
        (["*"], ["get"]),
        (["/*"], ["get"]),
        (["/metrics"], ["post"]),
        (["/metrics"], ["*"]),
        (["/metrics*"], ["get"]),
        (["/metrics/"], ["get"]),
        (["/logs"], ["get"]),
        (["/log*"], ["get"]),
        (["/metrics", "/configz"], ["get"]),
        (["/logs/x", "/"], ["get"]),
    )
]
WAYS = ("create", "update", "merge", "json", "strategic", "apply", "apply anew", "dry run")


def write(client: Cluster, way: str, kind: str, namespace: str, name: str, change: dict[str, Any]) -> None:
    """Write a role in one of the ways; all but two of them change one that is there."""
    types = {
        "merge": "application/merge-patch+json",
        "strategic": "application/strategic-merge-patch+json",
        "json": "application/json-patch+json",
        "apply": "application/apply-patch+yaml",
        "apply anew": "application/apply-patch+yaml",
    }
    body = made(kind, name, namespace, **change)
    if way in ("create", "dry run"):
        client.request("POST", path(kind, namespace) + ("?dryRun=All" if way == "dry run" else ""), body)
    elif way == "update":
        client.request("PUT", path(kind, namespace, name), body)
    elif way == "json":
        patch: Any = [{"op": "add", "path": f"/{key}", "value": value} for key, value in change.items()]
        client.request("PATCH", path(kind, namespace, name), patch, content_type=types[way])
    elif way.startswith("apply"):
        query = "?fieldManager=t&force=true"
        client.request("PATCH", path(kind, namespace, name) + query, body, content_type=types[way])
    else:
        client.request("PATCH", path(kind, namespace, name), change, content_type=types[way])


def refused(work: Any, *args: Any, code: int = 403) -> None:
    with pytest.raises(ApiError) as caught:
        work(*args)
    assert caught.value.code == code, str(caught.value)


@pytest.mark.live
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["Role", "ClusterRole"])
def test_a_role_holds_nothing_that_its_writer_does_not(world: World, namespace: str, kind: str, way: str) -> None:
    client = clerk(world)
    for more in MORE + (URLS if kind == "ClusterRole" else []):
        name = f"r-{next(_numbers)}"
        if way not in ("create", "dry run", "apply anew"):
            client.create(made(kind, name, namespace, rules=[rule(["pods"], ["get"])]))
        refused(write, client, way, kind, namespace, name, {"rules": [more]})
    name = f"r-{next(_numbers)}"
    if way not in ("create", "dry run", "apply anew"):
        client.create(made(kind, name, namespace, rules=[rule(["pods"], ["get"])]))
    held = [rule(["pods", "pods/log"], ["get", "list"]), rule(["configmaps"], ["get"], resourceNames=["one"])]
    held += [{"nonResourceURLs": ["/logs/x", "/logs/*"], "verbs": ["get"]}] if kind == "ClusterRole" else []
    write(client, way, kind, namespace, name, {"rules": held})


@pytest.mark.live
@pytest.mark.parametrize("way", WAYS)
def test_an_aggregation_is_everything_and_needs_everything(world: World, namespace: str, way: str) -> None:
    client = clerk(world)
    change = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}
    variants: list[dict[str, Any]] = [
        change,
        {"aggregationRule": {"clusterRoleSelectors": [{}]}},
        {"aggregationRule": {}},
    ]
    for selectors in variants:
        name = f"r-{next(_numbers)}"
        if way not in ("create", "dry run", "apply anew"):
            client.create(made("ClusterRole", name, "", rules=[rule(["pods"], ["get"])]))
        code = 403 if selectors["aggregationRule"] else 422  # without a selector it is no rule, whoever writes it
        refused(write, client, way, "ClusterRole", namespace, name, {"rules": [], **selectors}, code=code)
    mighty = clerk(world, EVERYTHING, {"nonResourceURLs": ["*"], "verbs": ["*"]})
    name = f"r-{next(_numbers)}"
    if way not in ("create", "dry run", "apply anew"):
        mighty.create(made("ClusterRole", name, "", rules=[]))
    write(mighty, way, "ClusterRole", namespace, name, {"rules": [], **change})
    refused(
        write, client, "merge", "ClusterRole", namespace, name, {"metadata": {"labels": {"a": "b"}}}
    ) if way not in ("dry run",) else None


@pytest.mark.live
def test_what_was_gathered_is_not_taken_over_by_a_change_of_the_gatherer(world: World, namespace: str) -> None:
    client = clerk(world)
    rules = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}}
    name = f"r-{next(_numbers)}"
    world.cluster.create(made("ClusterRole", name, "", **rules))
    changes: list[dict[str, Any]] = [{"aggregationRule": None}, {"aggregationRule": {"clusterRoleSelectors": [{}]}}]
    for change in changes:
        refused(write, client, "merge", "ClusterRole", namespace, name, change)


@pytest.mark.live
@pytest.mark.parametrize("way", ["create", "apply anew", "dry run"])
@pytest.mark.parametrize("kind", ["RoleBinding", "ClusterRoleBinding"])
def test_a_binding_grants_nothing_that_its_writer_does_not_hold(
    world: World, namespace: str, kind: str, way: str
) -> None:
    client = clerk(world)
    gatherer, wide = f"g-{next(_numbers)}", f"w-{next(_numbers)}"
    world.cluster.create(made("ClusterRole", wide, "", rules=[EVERYTHING]))
    selectors = {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"of": gatherer}}]}}
    world.cluster.create(made("ClusterRole", gatherer, "", **selectors))
    gathered = made("ClusterRole", f"{gatherer}-1", "", rules=[rule(["secrets"], ["get"])])
    gathered["metadata"]["labels"] = {"of": gatherer}
    world.cluster.create(gathered)
    subjects = [{"kind": "User", "name": "me"}]
    for role in ("cluster-admin", "admin", "edit", wide, gatherer):
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
        name = f"b-{next(_numbers)}"
        refused(write, client, way, kind, namespace, name, {"roleRef": reference, "subjects": subjects})
    missing = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "not-yet"}
    refused(write, client, way, kind, namespace, "late", {"roleRef": missing, "subjects": subjects}, code=404)
    narrow = f"n-{next(_numbers)}"
    client.create(made("ClusterRole", narrow, "", rules=[rule(["pods"], ["get"])]))
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": narrow}
    write(client, way, kind, namespace, f"b-{next(_numbers)}", {"roleRef": reference, "subjects": subjects})


@pytest.mark.live
@pytest.mark.parametrize("kind", ["RoleBinding", "ClusterRoleBinding"])
@pytest.mark.parametrize("way", ["update", "merge", "json", "strategic", "apply"])
def test_nobody_puts_himself_into_a_binding_of_more(world: World, namespace: str, kind: str, way: str) -> None:
    client = clerk(world)
    name = f"b-{next(_numbers)}"
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"}
    world.cluster.create(made(kind, name, namespace, roleRef=reference, subjects=[{"kind": "User", "name": "boss"}]))
    subjects = [{"kind": "User", "name": "me", "apiGroup": RBAC}]
    refused(write, client, way, kind, namespace, name, {"subjects": subjects, "roleRef": reference})


@pytest.mark.live
def test_the_verbs_bind_and_escalate_are_what_lets_one_grant_more(world: World, namespace: str) -> None:
    binder = clerk(world, rule(["clusterroles"], ["bind"], [RBAC], resourceNames=["view"]))
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for role, fine in (("view", True), ("edit", False)):
            body = {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, "subjects": []}
            name = f"b-{next(_numbers)}"
            if fine:
                write(binder, "create", kind, namespace, name, body)
            else:
                refused(write, binder, "create", kind, namespace, name, body)
    author = clerk(world, rule(["roles"], ["escalate"], [RBAC]))
    write(author, "create", "Role", namespace, f"r-{next(_numbers)}", {"rules": [EVERYTHING]})
    refused(write, author, "create", "ClusterRole", namespace, f"r-{next(_numbers)}", {"rules": [EVERYTHING]})


@pytest.mark.live
def test_an_apply_that_creates_needs_the_right_to_create(world: World, namespace: str) -> None:
    name = f"patcher-{next(_numbers)}"
    world.cluster.create(made("ClusterRole", name, "", rules=[rule(["configmaps"], ["patch", "get"])]))
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
    subjects = [{"kind": "User", "name": name}]
    world.cluster.create(made("RoleBinding", name, namespace, roleRef=reference, subjects=subjects))
    client = world.user(name)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": namespace}}
    where = f"/api/v1/namespaces/{namespace}/configmaps/c?fieldManager=t"
    refused(lambda: client.request("PATCH", where, body, content_type="application/apply-patch+yaml"))
    world.cluster.create(body)
    client.request("PATCH", where, body, content_type="application/apply-patch+yaml")


SUBJECTS: list[tuple[dict[str, str], dict[str, Any] | None, int]] = [  # headers, what it takes, code without
    ({"Impersonate-User": "jim"}, rule(["users"], ["impersonate"]), 403),
    ({"Impersonate-User": "jim"}, rule(["users"], ["impersonate"], resourceNames=["jim"]), 403),
    ({"Impersonate-User": "system:serviceaccount:default:default"}, rule(["serviceaccounts"], ["impersonate"]), 403),
    ({"Impersonate-User": "system:node:node-1"}, rule(["users"], ["impersonate"]), 403),
    ({"impersonate-user": "joe"}, rule(["users"], ["impersonate"]), 403),
    ({"Impersonate-Group": "system:masters"}, None, 400),
    ({"Impersonate-Uid": "1"}, None, 400),
    ({"Impersonate-Extra-scopes": "x"}, None, 400),
    ({"Impersonate-User": ""}, None, 400),
    ({"Impersonate-User": "system:admin"}, rule(["users"], ["impersonate"]), 403),
    ({"IMPERSONATE-USER": "jim"}, rule(["users"], ["impersonate"]), 403),
    ({"Impersonate-User": "system:serviceaccount:default:"}, rule(["users"], ["impersonate"]), 403),
    ({"Impersonate-User": "system:serviceaccount:a:b:c"}, rule(["users"], ["impersonate"]), 403),
    ({"Impersonate-User": "system:serviceaccount:kube-system:x"}, rule(["serviceaccounts"], ["impersonate"]), 403),
    ({"Impersonate-User": "*"}, rule(["users"], ["impersonate"]), 403),
    ({"Impersonate-Group": ""}, None, 400),
    ({"Impersonate-Extra-": "x"}, None, 400),
    ({"Impersonate-User": "", "Impersonate-Group": "system:masters"}, None, 400),
]


def status(world: World, client: Cluster, headers: dict[str, str]) -> int:
    url = f"{world.url}/apis/authentication.k8s.io/v1/selfsubjectreviews"
    body = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
    every = {**client._headers(), "Content-Type": "application/json", **headers}
    return int(client._pool.request("POST", url, body=body, headers=every).status)


@pytest.mark.live
@pytest.mark.parametrize(("headers", "takes", "code"), SUBJECTS)
def test_to_act_as_another_needs_the_right_to_each_part_of_him(
    world: World, headers: dict[str, str], takes: dict[str, Any] | None, code: int
) -> None:
    assert status(world, clerk(world), headers) == code
    if takes is not None:
        allowed = clerk(world, takes)
        assert status(world, allowed, headers) == 201
        for more in (
            {"Impersonate-Group": "system:masters"},
            {"Impersonate-Uid": "1"},
            {"Impersonate-Extra-Scopes": "x"},
            {"Impersonate-Extra-authentication.kubernetes.io%2fnode-name": "node-1"},
        ):
            assert status(world, allowed, headers | more) == 403
        assert status(world, allowed, {"Impersonate-User": "system:serviceaccount:default:x:y"}) in (201, 403)


def test_the_other_is_who_was_asked_for() -> None:
    plan = plan_impersonation(
        [("Impersonate-User", "system:serviceaccount:n:a"), ("impersonate-uid", "7"), ("Impersonate-Extra-a%2fb", "c")]
    )
    assert plan is not None
    user, needs = plan
    assert (user.name, user.uid, user.extra) == ("system:serviceaccount:n:a", "7", {"a/b": ["c"]})
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated")
    assert [(n.target, n.namespace, n.name) for n in needs] == [
        ("serviceaccounts", "n", "a"),
        ("uids", "", "7"),
        ("userextras/a/b", "", "c"),
    ]
    assert plan_impersonation([("Accept", "x")]) is None


INVALID: dict[str, tuple[str, dict[str, Any], int]] = {  # what validation would refuse too: kind, object, the answer
    "a rule without verbs": ("Role", {"rules": [{**EVERYTHING, "verbs": ["*"]}, rule(["pods"], [])]}, 403),
    "a rule without resources": ("ClusterRole", {"rules": [rule(["secrets"], ["get"]), rule([], ["get"])]}, 403),
    "a namespaced rule of paths": (
        "Role",
        {"rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}, rule(["secrets"], ["get"])]},
        403,
    ),
    "a subject without a name": (
        "ClusterRoleBinding",
        {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [{"kind": "User"}]},
        403,
    ),
    "a name that is none": ("Role", {"metadata": {"name": "a/b"}, "rules": [EVERYTHING]}, 403),
    "nothing that is not held": ("Role", {"rules": [rule(["pods"], ["get"]), rule(["pods"], [])]}, 422),
    "a reference of no kind": ("ClusterRoleBinding", {"roleRef": {"apiGroup": RBAC, "kind": "Town", "name": "x"}}, 500),
}


@pytest.mark.parametrize("what", INVALID)
@pytest.mark.parametrize("way", ["create", "update"])
def test_who_may_not_write_it_is_not_told_what_else_is_wrong(world: World, namespace: str, what: str, way: str) -> None:
    kind, change, code = INVALID[what]
    if way == "update" and "name" in what and kind == "Role":
        pytest.skip("the name of an object that is there is right")
    client = clerk(world)
    name = f"invalid-{next(_numbers)}"
    body = made(kind, name, namespace, **change)
    body["metadata"] |= {} if kind.startswith("Cluster") else {"namespace": namespace}
    if way == "update":
        good = {"rules": []} if not kind.endswith("Binding") else {"roleRef": change["roleRef"]}
        if good.get("roleRef", {}).get("kind") == "Town":
            pytest.skip("there can be no such binding")
        world.cluster.create(made(kind, name, namespace, **good))
        body["metadata"]["resourceVersion"] = world.cluster.request("GET", path(kind, namespace, name))["metadata"][
            "resourceVersion"
        ]
    with pytest.raises(ApiError) as caught:
        client.request(
            "PUT" if way == "update" else "POST", path(kind, namespace, name if way == "update" else ""), body
        )
    assert caught.value.code == code, str(caught.value)


# What a WebSocket asks for by GET, and the verbs that somebody holds of it -> whether he may.
ACTING = [(part, verbs, "create" in verbs) for part in ("exec", "attach", "portforward")
          for verbs in (["get"], ["get", "list", "watch", "update", "patch", "delete"], ["get", "create"])]  # fmt: skip


@pytest.mark.parametrize(("part", "verbs", "may"), ACTING)
def test_whoever_may_only_look_runs_nothing_by_a_web_socket(
    world: World, namespace: str, part: str, verbs: list[str], may: bool
) -> None:
    user = clerk(world, rule([f"pods/{part}"], verbs))
    with pytest.raises(ApiError) as caught:
        user.request("GET", f"/api/v1/namespaces/{namespace}/pods/none/{part}?command=id&stdout=true&ports=1")
    assert (caught.value.code == 403) is not may, str(caught.value)
    if not may:
        assert f'cannot create resource "pods/{part}"' in str(caught.value)
