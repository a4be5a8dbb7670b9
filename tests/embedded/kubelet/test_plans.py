"""Specs, environments, volumes, cgroup figures, names: pure plans of what a container is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import chaos
from chaos.embedded.beneath import Beneath
from chaos.embedded.claims import DIRECTORIES, PROVISIONED_BY, PROVISIONER
from chaos.embedded.kubelet import cgroups, nodeinit
from chaos.embedded.kubelet.environment import ConfigError, container_environment, expand, field_value, resource_value
from chaos.embedded.kubelet.images import Image
from chaos.embedded.kubelet.logs import render
from chaos.embedded.kubelet.node_machine import SETTINGS, USERS, plan_binds, plan_masks, plan_skeleton
from chaos.embedded.kubelet.sandbox import plan_hostname, plan_resolv
from chaos.embedded.kubelet.spec import (
    ALL_CAPABILITIES,
    FORBIDDEN,
    ContainerContext,
    SpecError,
    held_capabilities,
    plan_arguments,
    plan_capabilities,
    plan_oom_score,
    plan_spec,
)
from chaos.embedded.kubelet.volumes import plan_volumes, write_files
from chaos.embedded.quantity import qos_class
from chaos.embedded.resources import Object
from chaos.names import full_image_name

IMAGE = Image("i", "sha256:x", ("/l",), entrypoint=("/entry",), command=("default",), directory="/w")
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": '2"', "a": "1"}},
    "spec": {"containers": []},
}
NODE = {"name": "node", "ip": "1.2.3.4", "memory": "4096", "cpu": "2"}


def spec(container: dict[str, Any], **more: Any) -> dict[str, Any]:
    around = ContainerContext(7, "/root", "p", installation={"/inst": "/inst"})
    return plan_spec(
        POD | {"spec": {"containers": [container], **more}},
        container,
        IMAGE,
        {"A": "b"},
        around,
        limits=cgroups.Limits(),
        cgroup="/kubepods/podu/c",
        oom_score=None,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)", "x"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("a$", "a$"), ("$(A", "$(A"), ("$$$(A)", "$x")],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "x"}) == expected


def test_the_downward_api_knows_fields_and_refuses_others() -> None:
    assert field_value(POD, "metadata.labels", NODE) == 'a="1"\nb="2\\""'
    assert field_value(POD, "metadata.labels['a']", NODE) == "1"
    assert field_value(POD, "spec.nodeName", NODE) == "node"
    with pytest.raises(ConfigError, match="unsupported fieldPath"):
        field_value(POD, "spec.containers", NODE)


def test_a_missing_limit_reads_as_the_nodes_capacity_and_figures_are_rounded_up() -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": "1500m"}}}
    assert resource_value(POD, container, {"resource": "limits.cpu"}, NODE) == "2"
    assert resource_value(POD, container, {"resource": "limits.cpu", "divisor": "1m"}, NODE) == "1500"
    assert resource_value(POD, container, {"resource": "limits.memory"}, NODE) == "4096"


def test_a_missing_key_is_an_error_unless_it_is_optional() -> None:
    def env(optional: bool) -> dict[str, Any]:
        return {
            "name": "c",
            "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": optional}}}],
        }

    assert container_environment(POD, env(True), {}, {}, lambda *_: {}, NODE) == {}
    with pytest.raises(ConfigError, match="couldn't find key k in ConfigMap n/m"):
        container_environment(POD, env(False), {}, {}, lambda *_: {}, NODE)
    with pytest.raises(ConfigError, match='configmap "m" not found'):
        container_environment(POD, env(False), {}, {}, lambda *_: None, NODE)


def test_a_command_replaces_the_images_entrypoint_and_its_arguments() -> None:
    assert plan_arguments({}, IMAGE, {}) == ["/entry", "default"]
    assert plan_arguments({"args": ["x"]}, IMAGE, {}) == ["/entry", "x"]
    assert plan_arguments({"command": ["/c"]}, IMAGE, {}) == ["/c"]
    with pytest.raises(SpecError, match="no command"):
        plan_arguments({}, Image("i", "", ()), {})


def test_capabilities_are_the_default_ones_changed_and_never_more_than_are_held() -> None:
    held = ["CAP_CHOWN", "CAP_NET_ADMIN", "CAP_KILL"]
    assert plan_capabilities({}, held) == ["CAP_CHOWN", "CAP_KILL"]
    assert (
        plan_capabilities({"capabilities": {"add": ["NET_ADMIN", "SYS_RESOURCE"], "drop": ["KILL"]}}, held) == held[:2]
    )
    assert plan_capabilities({"capabilities": {"drop": ["ALL"], "add": ["KILL"]}}, held) == ["CAP_KILL"]
    assert plan_capabilities({"privileged": True}, held) == held
    everything = {name.removeprefix("CAP_") for name in held_capabilities()}
    assert not everything & FORBIDDEN
    assert {ALL_CAPABILITIES[number] for number in nodeinit.FORBIDDEN} == FORBIDDEN


def test_namespaces_are_the_pods_unless_it_asks_for_the_nodes() -> None:
    def kinds(**more: Any) -> dict[str, str]:
        return {
            n["type"]: n.get("path", "new") for n in spec({"name": "c", "image": "i"}, **more)["linux"]["namespaces"]
        }

    assert kinds() == {
        "mount": "new",
        "pid": "new",
        "network": "/proc/7/ns/net",
        "ipc": "/proc/7/ns/ipc",
        "uts": "/proc/7/ns/uts",
    }
    assert "pid" not in kinds(hostPID=True)
    assert "network" not in kinds(hostNetwork=True)


def test_not_even_a_privileged_container_sees_the_machine() -> None:
    plain, privileged = (
        spec({"name": "c", "image": "i", "securityContext": {"privileged": p}})["linux"] for p in (False, True)
    )
    assert "/proc/kcore" in plain["maskedPaths"]
    assert privileged["maskedPaths"] == plain["maskedPaths"]
    assert "/proc/sys/kernel" in privileged["readonlyPaths"]
    assert "/proc/sys/net" not in privileged["readonlyPaths"]
    assert {"allow": True, "access": "rwm"} not in privileged["resources"]["devices"]
    for one, mounts in ((plain, False), (privileged, True)):
        (row,) = one["seccomp"]["syscalls"]
        assert "open_by_handle_at" in row["names"]
        assert ("mount" in row["names"]) is mounts
    assert plain["resources"]["devices"] == [{"allow": False, "access": "rwm"}]


def test_a_mount_of_a_volume_that_is_not_there_is_refused_and_so_is_a_sub_path_upwards() -> None:
    with pytest.raises(SpecError, match='volume "v" not found'):
        spec({"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]})


def test_cgroup_figures_are_the_kubelets() -> None:
    limits = cgroups.container_limits(
        {"resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1500m", "memory": "1Gi"}}}
    )
    assert limits == cgroups.Limits(102, 150_000, 1 << 30)
    assert cgroups.container_limits({}) == cgroups.Limits(2, None, None)
    assert cgroups.container_limits({"resources": {"limits": {"cpu": "1m"}}}).quota == cgroups.MIN_QUOTA
    assert [cgroups.weight(shares) for shares in (2, 1024, 262_144)] == [1, 39, 10_000]


def test_a_pods_limit_is_a_sum_only_when_every_container_has_one() -> None:
    one, none = {"name": "a", "resources": {"limits": {"cpu": "1"}}}, {"name": "b"}
    assert cgroups.pod_limits({"spec": {"containers": [one, one]}}).quota == 200_000
    assert cgroups.pod_limits({"spec": {"containers": [one, none]}}).quota is None
    huge = {"resources": {"limits": {"cpu": "1e30"}}}  # what the kernel refuses would keep the pod from starting
    assert cgroups.container_limits(huge).quota == cgroups.MAX_QUOTA
    assert cgroups.pod_limits({"spec": {"containers": [huge, one]}}).quota == cgroups.MAX_QUOTA


def test_quality_of_service_follows_requests_and_limits() -> None:
    def quality(*resources: dict[str, Any]) -> str:
        return qos_class({"spec": {"containers": [{"name": "c", "resources": r} for r in resources]}})

    both = {"limits": {"cpu": "1", "memory": "1Gi"}}
    assert quality({}) == "BestEffort"
    assert quality(both) == "Guaranteed"
    assert quality(both, {}) == "Burstable"
    assert quality(both | {"requests": {"cpu": "500m"}}) == "Burstable"
    assert quality(both | {"requests": {"cpu": "0"}}) == "Burstable"  # a request of zero counts as not set
    assert quality({"requests": {"cpu": "0", "memory": "0"}}) == "BestEffort"
    assert quality({"limits": {"cpu": "1", "memory": "0"}}) == "Burstable"
    assert [plan_oom_score({}, q, 1) for q in ("BestEffort", "Guaranteed", "Burstable")] == [1000, -997, 999]


def test_dns_follows_the_pods_policy() -> None:
    host = "nameserver 9.9.9.9\n"
    assert plan_resolv(POD | {"spec": {}}, host).startswith("search n.svc.cluster.local")
    assert plan_resolv(POD | {"spec": {"dnsPolicy": "Default"}}, host) == host
    assert plan_resolv(POD | {"spec": {"hostNetwork": True}}, host) == host
    assert (
        plan_resolv(POD | {"spec": {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["8.8.8.8"]}}}, host)
        == "nameserver 8.8.8.8\n"
    )
    assert plan_hostname({"metadata": {"name": "x" * 70}, "spec": {}}, "node") == "x" * 63


CLUSTER = ["n.svc.cluster.local", "svc.cluster.local", "cluster.local"]
LONG = [f"{n:02}{'d' * 200}.x" for n in range(30)]


@pytest.mark.parametrize(
    ("spec", "host", "words", "expected"),
    [
        ({"dnsConfig": {"searches": ["a.b", "svc.cluster.local"]}}, "", "search", [*CLUSTER, "a.b"]),
        ({"dnsConfig": {"searches": ["x"] * 3}}, "", "search", [*CLUSTER, "x"]),
        ({"dnsConfig": {"searches": [f"d{n}" for n in range(32)]}}, "", "search",
         [*CLUSTER, *(f"d{n}" for n in range(29))]),
        ({"dnsConfig": {"searches": LONG}}, "", "search", [*CLUSTER, *LONG[:9]]),
        ({"dnsConfig": {"searches": ["d" * 254, "x"]}}, "", "search", [*CLUSTER, "x"]),
        ({"dnsPolicy": "Default"}, "search a. b .\n", "search", ["a", "b"]),
        ({"dnsPolicy": "Default"}, "search a\nsearch b\n", "search", ["b"]),
        ({"dnsPolicy": "Default"}, "options timeout:1 rotate\n", "options", ["timeout:1", "rotate"]),
        ({"dnsPolicy": "Default", "dnsConfig": {"options": [{"name": "timeout", "value": "9"}]}},
         "options timeout:1 rotate\n", "options", ["timeout:9", "rotate"]),
        ({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}, "", "options",
         ["ndots:2", "edns0"]),
        ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.1", "2.2.2.2"]}}, "", "nameserver",
         ["1.1.1.1", "2.2.2.2"]),
        ({"dnsConfig": {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"]}}, "", "nameserver",
         ["10.96.0.10", "1.1.1.1", "2.2.2.2"]),
    ],
)  # fmt: skip
def test_a_resolv_conf_has_nothing_twice_and_no_more_than_is_read(
    spec: dict[str, Any], host: str, words: str, expected: list[str]
) -> None:
    lines = [line.split() for line in plan_resolv(POD | {"spec": spec}, host).splitlines()]
    assert [word for line in lines if line[0] == words for word in line[1:]] == expected


def no_claim(name: str) -> Object:
    raise ConfigError(f"no claim {name}")


@pytest.mark.parametrize(
    ("source", "volume", "path"),
    [
        ({"hostPath": {"path": "/data/x", "type": "Directory"}}, "v1", "/data/x"),
        ({"local": {"path": "/mnt/disk"}}, "v1", "/mnt/disk"),
        ({"hostPath": {"path": f"{DIRECTORIES}/pvc-1", "type": "DirectoryOrCreate"}}, "pvc-1", f"{DIRECTORIES}/pvc-1"),
    ],
)
def test_a_claim_is_mounted_as_the_volume_that_it_is_bound_to(source: dict[str, Any], volume: str, path: str) -> None:
    held = {"metadata": {"name": volume, "annotations": {PROVISIONED_BY: PROVISIONER}}, "spec": source}
    asked: list[str] = []

    def claim(name: str) -> Object:
        asked.append(name)
        return held

    volumes = [
        {"name": "d", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
        {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
    ]
    pod = POD | {"spec": {"volumes": volumes}}
    plan = plan_volumes(pod, "/r", lambda *_: None, lambda *_, **__: "", NODE, claim)
    assert asked == ["c", f"{POD['metadata']['name']}-e"]
    assert [(one.source, one.readonly) for one in plan.volumes] == [(path, True), (path, False)]
    assert plan.volumes[0].claimed == (volume if volume == "pvc-1" else "")  # only its own directory is made for it


@pytest.mark.parametrize("spec", [{"csi": {"driver": "d"}}, {"nfs": {}}, {"hostPath": {}, "volumeMode": "Block"}, {}])
def test_a_volume_that_cannot_be_mounted_here_is_said_to_be(spec: dict[str, Any]) -> None:
    held = {"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1"}, **spec}}
    pod = POD | {"spec": {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]}}
    with pytest.raises(ConfigError, match=r'volume "d" : .* not supported here'):
        plan_volumes(pod, "/r", lambda *_: None, lambda *_, **__: "", NODE, lambda _: held)


@pytest.mark.parametrize("source", [{"clusterTrustBundle": {"path": "x"}}, {"podCertificate": {"keyPath": "x"}}])
def test_a_projected_source_that_cannot_be_had_here_is_said_to_be(source: dict[str, Any]) -> None:
    pod = POD | {"spec": {"volumes": [{"name": "v", "projected": {"sources": [source]}}]}}
    with pytest.raises(ConfigError, match=r'volume "v" : projected sources of kind .* not supported here'):
        plan_volumes(pod, "/r", lambda *_: None, lambda *_, **__: "", NODE, no_claim)


@pytest.mark.parametrize("medium", ["Disk", "memory", "HugePages", "HugePages-2Mi", "../x"])
def test_a_medium_that_there_is_not_is_said_as_by_a_kubelet(medium: str) -> None:
    pod = POD | {"spec": {"volumes": [{"name": "v", "emptyDir": {"medium": medium}}]}}
    with pytest.raises(ConfigError, match=f'volume "v" : unknown storage medium "{medium}"$'):
        plan_volumes(pod, "/r", lambda *_: None, lambda *_, **__: "", NODE, no_claim)


def test_a_token_is_readable_for_every_container_unless_they_all_are_one_user() -> None:
    def tokens(spec: dict[str, object]) -> tuple[int, dict[str, int]]:
        volume = {
            "name": "v",
            "projected": {"defaultMode": 0o644, "sources": [{"serviceAccountToken": {"path": "token"}}]},
        }
        plan = plan_volumes(
            POD | {"spec": {"volumes": [volume], **spec}}, "/r", lambda *_: {}, lambda *_, **__: "tok", NODE, no_claim
        )
        return plan.files["v"]["token"][1], plan.owners["v"]

    root, other, silent = ({"name": "c", "securityContext": {"runAsUser": user}} for user in (0, 65532, None))
    del silent["securityContext"]
    assert tokens({"containers": [silent]}) == (0o644, {})
    assert tokens({"containers": [other, silent]}) == (0o644, {})
    assert tokens({"containers": [other, root]}) == (0o644, {})
    assert tokens({"containers": [other], "initContainers": [other]}) == (0o600, {"token": 65532})
    assert tokens({"containers": [silent], "securityContext": {"runAsUser": 7}}) == (0o600, {"token": 7})
    assert tokens({"containers": [silent], "securityContext": {"fsGroup": 7}}) == (0o600, {})


def test_images_have_one_full_name() -> None:
    assert full_image_name("nginx") == "docker.io/library/nginx:latest"
    assert full_image_name("me/app:1") == "docker.io/me/app:1"
    assert full_image_name("localhost:5000/app") == "localhost:5000/app:latest"
    assert full_image_name("docker.io/library/python-demo:local") == "docker.io/library/python-demo:local"


def test_projected_volumes_gather_their_sources_and_name_what_is_missing() -> None:
    pod = POD | {
        "spec": {
            "volumes": [
                {
                    "name": "v",
                    "projected": {
                        "defaultMode": 0o644,
                        "sources": [
                            {"serviceAccountToken": {"path": "token"}},
                            {"configMap": {"name": "m", "items": [{"key": "k", "path": "f"}]}},
                        ],
                    },
                }
            ]
        }
    }
    plan = plan_volumes(pod, "/r", lambda *_: {"k": b"v"}, lambda *_, **__: "tok", NODE, no_claim)
    assert plan.files["v"] == {"token": (b"tok", 0o644), "f": (b"v", 0o644)}
    pod["spec"]["volumes"][0]["projected"]["sources"].append({})  # what is left of a source behind a shut gate
    assert plan_volumes(pod, "/r", lambda *_: {"k": b"v"}, lambda *_, **__: "tok", NODE, no_claim).files == plan.files
    with pytest.raises(ConfigError, match='volume "v" : configmap "m" not found'):
        plan_volumes(pod, "/r", lambda *_: None, lambda *_, **__: "tok", NODE, no_claim)
    with pytest.raises(ConfigError, match="not supported"):
        plan_volumes(
            POD | {"spec": {"volumes": [{"name": "n", "nfs": {}}]}},
            "/r",
            lambda *_: None,
            lambda *_, **__: "",
            NODE,
            no_claim,
        )


def test_files_of_a_volume_change_all_at_once_and_only_when_they_differ(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    assert write_files(Beneath(tmp_path, "volume"), {"a": (b"1", 0o644), "sub/b": (b"2", 0o600)})
    assert not write_files(Beneath(tmp_path, "volume"), {"a": (b"1", 0o644), "sub/b": (b"2", 0o600)})
    held = (volume / "a").resolve()
    assert write_files(Beneath(tmp_path, "volume"), {"a": (b"3", 0o644)})
    assert (volume / "a").read_bytes() == b"3"
    assert not (volume / "sub").exists()
    assert not held.exists()


def test_what_a_node_may_see_is_a_short_list_and_the_installation_is_put_back() -> None:
    masks = plan_masks()
    assert {"/usr/src", "/usr/local/etc", "/usr/local/share"} & set(masks) or not Path("/usr/src").exists()
    assert not {"/usr/bin", "/usr/lib", "/usr/share", "/usr/local"} & set(masks)
    package = str(Path(chaos.__file__).parent)
    assert any(package == path or package.startswith(path + "/") for path in plan_binds(masks))
    assert all(path.startswith("/") and path not in ("/", "/usr", "/etc", "/root") for path in plan_binds(masks))


def test_the_skeleton_holds_what_everybody_may_read_of_a_list_and_users_of_its_own(tmp_path: Path) -> None:
    made = tmp_path / "skeleton"
    made.mkdir()
    nodeinit.make_skeleton(str(made), plan_skeleton())
    assert {path.name for path in (made / "etc").iterdir()} <= {name.split("/")[0] for name in SETTINGS} | set(USERS)
    assert not (made / "etc" / "ssl" / "private").exists()
    assert (made / "etc" / "passwd").read_text() != Path("/etc/passwd").read_text()
    files = [path for path in made.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    assert all(path.stat().st_mode & 0o004 and path.is_relative_to(made / "etc") for path in files)


def test_a_partial_line_of_a_log_is_joined_and_a_whole_one_ends() -> None:
    assert render(b"2026-01-01T00:00:00Z stdout P half\n", timestamps=False) == b"half"
    assert render(b"2026-01-01T00:00:00Z stderr F whole\n", timestamps=False) == b"whole\n"
    assert render(b"2026-01-01T00:00:00Z stderr F whole\n", timestamps=True) == b"2026-01-01T00:00:00Z whole\n"
