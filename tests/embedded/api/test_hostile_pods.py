"""Pods that Kubernetes refuses, each with the field that is wrong: 422, and nothing is stored."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.errors import ApiError
from tests.embedded.api.conftest import World, config_map, pod

pytestmark = pytest.mark.live

PATHS = (
    "/etc/cron.d/x",
    "../x",
    "a/../../x",
    "..",
    "..x",
    "..data",
    "..2/x",
    "",
    "a/..",
    "a/",
    ".",
    "./.",
    "x\0y",
    "//x",
    "./..",
    "a/./..",
    "..\0",
    "../",
    "a//..",
    "x/\0/../y",
    "..%2f..",
    "/",
)
DESCENDING = ("/etc", "..", "../x", "a/../../b", "a/..", "x\0y")
C = "spec.containers[0]"


def _items(kind: str, path: str) -> tuple[dict[str, Any], str]:
    """A volume of one kind with a file at the path, and the field that names it."""
    key = {"key": "k", "path": path}
    field = {"path": path, "fieldRef": {"fieldPath": "metadata.name"}}
    volumes: dict[str, tuple[dict[str, Any], str]] = {
        "configMap": ({"configMap": {"name": "c", "items": [key]}}, "configMap.items[0].path"),
        "secret": ({"secret": {"secretName": "c", "items": [key]}}, "secret.items[0].path"),
        "downwardAPI": ({"downwardAPI": {"items": [field]}}, "downwardAPI"),
        "projected configMap": (
            {"projected": {"sources": [{"configMap": {"name": "c", "items": [key]}}]}},
            "projected.sources[0].configMap.items[0].path",
        ),
        "projected secret": (
            {"projected": {"sources": [{"secret": {"name": "c", "items": [key]}}]}},
            "projected.sources[0].secret.items[0].path",
        ),
        "projected downwardAPI": (
            {"projected": {"sources": [{"downwardAPI": {"items": [field]}}]}},
            "projected.sources[0].downwardAPI",
        ),
        "token": ({"projected": {"sources": [{"serviceAccountToken": {"path": path}}]}}, "projected"),
    }
    return volumes[kind]


KINDS = (
    "configMap", "secret", "downwardAPI", "projected configMap", "projected secret", "projected downwardAPI", "token"
)  # fmt: skip


def _refused(world: World, body: dict[str, Any], field: str) -> str:
    with pytest.raises(ApiError) as caught:
        world.cluster.create(body)
    assert caught.value.code == 422, str(caught.value)
    assert field in str(caught.value)
    assert world.cluster.find(body["kind"], body["metadata"]["name"], body["metadata"]["namespace"]) is None
    return str(caught.value)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_volume_lies_in_the_volume(world: World, namespace: str, kind: str, path: str) -> None:
    volume, field = _items(kind, path)
    _refused(world, pod("p", namespace, volumes=[{"name": "v", **volume}]), f"spec.volumes[0].{field}")


@pytest.mark.parametrize("path", ["x", "a/b", "x..", "a/..x", ".x", "...", "a/./b"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_files_of_a_volume_are_fine(world: World, namespace: str, kind: str, path: str) -> None:
    volume, _ = _items(kind, path)
    if path == "...":
        _refused(world, pod("p", namespace, volumes=[{"name": "v", **volume}]), "spec.volumes[0]")
    else:
        world.cluster.create(pod("p", namespace, volumes=[{"name": "v", **volume}]))


@pytest.mark.parametrize(
    "key",
    [
        ".",
        "..",
        "..x",
        "..data",
        "...",
        "a/b",
        "",
        "/x",
        "x\0",
        "../x",
        "a\nb",
        "a b",
        "a\\b",
        "x" * 254,
        "ü",
        "..\u2215x",
    ],
)
@pytest.mark.parametrize("part", ["data", "binaryData", "secret"])
def test_a_key_is_a_files_name(world: World, namespace: str, part: str, key: str) -> None:
    body = config_map("c", namespace)
    if part == "secret":
        body |= {"kind": "Secret"}
    body["data" if part == "secret" else part] = {key: "Yg=="}
    _refused(world, body, f"{'data' if part == 'secret' else part}[{key}]" if "\0" not in key else "")


def _container(**more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "app", "image": "example:1", **more}]}


def _mounted(**more: Any) -> dict[str, Any]:
    mount = {"name": "v", "mountPath": "/v", **more}
    return {"volumes": [{"name": "v", "emptyDir": {}}], **_container(volumeMounts=[mount])}


def _context(**more: Any) -> dict[str, Any]:
    return _container(securityContext=more)


def _volume(**more: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **more}]}


def _sysctl(name: str, **more: Any) -> dict[str, Any]:
    return {"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, **more}


def _projected(kind: str, path: str) -> dict[str, Any]:
    if kind == "downwardAPI":
        return {kind: {"items": [{"path": path, "fieldRef": {"fieldPath": "metadata.name"}}]}}
    return {kind: {"name": "c", "items": [{"key": "k", "path": path}]}}


HOSTILE: list[tuple[str, dict[str, Any]]] = [
    *((f"{C}.volumeMounts", _mounted(subPath=path)) for path in DESCENDING),
    *((f"{C}.volumeMounts", _mounted(subPathExpr=path)) for path in DESCENDING),
    *(
        (
            f"spec.volumes[0].projected.sources[0].{kind}.{field}",
            _volume(projected={"sources": [{kind: {field: path, "signerName": "a.b/c", "keyType": "ED25519"}}]}),
        )
        for path in ("../x", "/etc/x", "..", "..x")
        for kind, fields in (
            ("clusterTrustBundle", ("path",)),
            ("podCertificate", ("credentialBundlePath", "keyPath", "certificateChainPath")),
        )
        for field in fields
    ),
    ("spec.resources.limits[memory]", {"resources": {"limits": {"memory": "1"}}}),
    (f"{C}.volumeMounts[0].subPathExpr", _mounted(subPath="a", subPathExpr="b")),
    (f"{C}.volumeMounts[0].mountPath", _mounted(mountPath="/a:/b")),
    (f"{C}.volumeMounts[0].mountPath", _mounted(mountPath="/a/../../b")),
    (f"{C}.volumeMounts[0].mountPath", _mounted(mountPath="..")),
    (f"{C}.volumeMounts[0].mountPath", _mounted(mountPath="")),
    (f"{C}.volumeMounts[0].mountPath", _mounted(mountPath="/a\0b")),
    (f"{C}.volumeMounts.mountPropagation", _mounted(mountPropagation="All")),
    (f"{C}.terminationMessagePath", _container(terminationMessagePath="/../../etc/passwd")),
    (f"{C}.terminationMessagePath", _container(terminationMessagePath="../x")),
    (f"{C}.terminationMessagePath", _container(terminationMessagePath="x")),
    (f"{C}.terminationMessagePath", _container(terminationMessagePath="/x\0")),
    ("spec.volumes[0].hostPath.path", _volume(hostPath={"path": "/a/../../b"})),
    ("spec.volumes[0].hostPath.path", _volume(hostPath={"path": ""})),
    ("spec.volumes[0].hostPath.path", _volume(hostPath={"path": "etc"})),
    ("spec.volumes[0].hostPath.path", _volume(hostPath={"path": "/a\0"})),
    *(
        ("spec.volumes[0].gitRepo.directory", _volume(gitRepo={"repository": "https://x/y", "directory": path}))
        for path in DESCENDING
    ),
    *(
        ("spec.volumes[0].csi.driver", _volume(csi={"driver": name}))
        for name in ("", "../x", "/etc", "a/b", "..", ".", "a..b", "x\0y", "a" * 64, "-a", "ü")
    ),
    ("spec.volumes[0].hostPath.type", _volume(hostPath={"path": "/a", "type": "Anything"})),
    ("spec.volumes[0].emptyDir.sizeLimit", _volume(emptyDir={"sizeLimit": "-1"})),
    *(
        (f"spec.volumes[0].{kind}.defaultMode", _volume(**{kind: {name: "c", "defaultMode": mode}}))
        for mode in (0o7777, 0o1000, -1, 2**31 - 1)
        for kind, name in (("configMap", "name"), ("secret", "secretName"), ("downwardAPI", "items"))
        if name != "items"
    ),
    ("spec.volumes[0].downwardAPI.defaultMode", _volume(downwardAPI={"defaultMode": 0o7777})),
    ("spec.volumes[0].projected.defaultMode", _volume(projected={"defaultMode": 0o4755, "sources": []})),
    (
        "spec.volumes[0].configMap.items[0].mode",
        _volume(configMap={"name": "c", "items": [{"key": "k", "path": "p", "mode": 0o4755}]}),
    ),
    (
        "spec.volumes[0].downwardAPI.mode",
        _volume(downwardAPI={"items": [{"path": "p", "mode": -1, "fieldRef": {"fieldPath": "metadata.name"}}]}),
    ),
    (
        "spec.volumes[0].projected: ",
        _volume(
            projected={
                "sources": [
                    {"configMap": {"name": "c", "items": [{"key": "a", "path": "x"}, {"key": "b", "path": "x"}]}}
                ]
            }
        ),
    ),
    *(
        (f"{C}.securityContext.{name}", _context(**{name: value}))
        for name in ("runAsUser", "runAsGroup")
        for value in (-1, 2**31, 2**32, 2**40, 2**63 - 1, -(2**63))
    ),
    *(
        (f"spec.securityContext.{name}", {"securityContext": {name: value}})
        for name in ("runAsUser", "runAsGroup", "fsGroup")
        for value in (-1, 2**31, 2**40)
    ),
    ("spec.securityContext.supplementalGroups[1]", {"securityContext": {"supplementalGroups": [1, -1]}}),
    ("spec.securityContext.supplementalGroups[0]", {"securityContext": {"supplementalGroups": [2**40]}}),
    *(
        ("spec.securityContext.sysctls[0].name", _sysctl(name))
        for name in (
            "kernel.core_pattern",
            "kernel.modprobe",
            "kernel.sysrq",
            "vm.overcommit_memory",
            "fs.file-max",
            "kernel/core_pattern",
            "user.max_user_namespaces",
            "dev.tty.ldisc_autoload",
            "",
            "../kernel/core_pattern",
            "net.ipv4..x",
            "net.x=1",
            "a b",
            "kernel.hostname",
            "net.ipv4.ip_forward\n",
        )
    ),
    ("spec.securityContext.sysctls[0].name", _sysctl("net.ipv4.ip_forward", hostNetwork=True)),
    ("spec.securityContext.sysctls[0].name", _sysctl("kernel.shmmax", hostIPC=True)),
    (
        "spec.securityContext.sysctls[1].name",
        {"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}] * 2}},
    ),
    (f"{C}.env[0].value", _container(env=[{"name": "A", "value": "a\0b"}])),
    (f"{C}.env[0].name", _container(env=[{"name": "A\0", "value": "b"}])),
    (f"{C}.command[1]", _container(command=["sh", "\0"])),
    (f"{C}.args[0]", _container(args=["\0"])),
    (f"{C}.workingDir", _container(workingDir="/\0")),
    (f"{C}.image", _container(image="a\0")),
    (f"{C}.lifecycle.preStop.exec.command[0]", _container(lifecycle={"preStop": {"exec": {"command": ["\0"]}}})),
    (f"{C}.resources.limits[memory]", _container(resources={"limits": {"memory": "1"}})),
    (f"{C}.resources.limits[memory]", _container(resources={"limits": {"memory": "0"}})),
    (f"{C}.resources.limits[memory]", _container(resources={"limits": {"memory": "100m"}})),
    (f"{C}.resources.limits[memory]", _container(resources={"limits": {"memory": "-1"}})),
    (f"{C}.resources.limits[memory]", _container(resources={"limits": {"memory": "999Ki"}})),
    (f"{C}.securityContext", _context(privileged=True, allowPrivilegeEscalation=False)),
    (f"{C}.securityContext.procMount", _context(procMount="All")),
    (f"{C}.securityContext.capabilities.add[0]", _context(capabilities={"add": ["CAP SYS"]})),
    ("spec.activeDeadlineSeconds", {"activeDeadlineSeconds": 2**40}),
    ("spec.activeDeadlineSeconds", {"activeDeadlineSeconds": 0}),
    (
        f"{C}.securityContext.seccompProfile.localhostProfile",
        _context(seccompProfile={"type": "Localhost", "localhostProfile": "../../etc/passwd"}),
    ),
    (
        f"{C}.securityContext.seccompProfile.localhostProfile",
        _context(seccompProfile={"type": "Localhost", "localhostProfile": "/etc/passwd"}),
    ),
    (f"{C}.securityContext.seccompProfile.type", _context(seccompProfile={"type": "None"})),
    ("spec.hostAliases[0].ip", {"hostAliases": [{"ip": "10.0.0.1\n6.6.6.6 kubernetes", "hostnames": ["a"]}]}),
    ("spec.hostAliases[0].hostnames", {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a\n6.6.6.6 b"]}]}),
    ("spec.hostname", {"hostname": "a\nb"}),
    ("spec.hostname", {"hostname": "../a"}),
    ("spec.subdomain", {"subdomain": "a/b"}),
    ("spec.nodeName", {"nodeName": "../x"}),
    ("spec.dnsConfig.nameservers[0]", {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1\nx"]}}),
    ("spec.dnsConfig.searches", {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a\nb"]}}),
    (f"{C}.env[0].name", _container(env=[{"name": "A=B", "value": "c"}])),
    (f"{C}.ports[0].hostPort", _container(ports=[{"containerPort": 1, "hostPort": 70000}])),
    (f"{C}.volumeDevices", _container(volumeDevices=[{"name": "v", "devicePath": "../dev/sda"}])),
    (f"{C}.resources.limits[ephemeral-storage]", _container(resources={"limits": {"ephemeral-storage": "-1"}})),
    # paths and keys
    *((f"{C}.volumeMounts", _mounted(subPath=path)) for path in ("./..", "a/b/../../../c", "//etc", "/", "a\0/../b")),
    *((f"{C}.volumeMounts", _mounted(subPathExpr=path)) for path in ("$(A)/..", "../$(A)", "/$(A)", "a/../$(A)")),
    *(
        (f"{C}.terminationMessagePath", _container(terminationMessagePath=path))
        for path in ("/a/..", "/..", "./x", "..")
    ),
    *((f"{C}.volumeMounts[0].mountPath", _mounted(mountPath=path)) for path in ("/..", "../../etc", "C:\\x", ":")),
    ("spec.volumes[0].hostPath.path", _volume(hostPath={"path": "/.."})),
    ("spec.volumes[0].hostPath.path", _volume(hostPath={"path": "./a"})),
    ("spec.volumes[0].hostPath.type", _volume(hostPath={"path": "/a", "type": "directory"})),
    *(
        ("spec.volumes[0].projected: ", _volume(projected={"sources": sources}))
        for sources in (
            [{kind: {"name": "c", "items": [{"key": "a", "path": "x"}]}} for kind in ("configMap", "secret")],
            [_projected("configMap", "x"), _projected("downwardAPI", "x")],
            [_projected("downwardAPI", "x"), _projected("downwardAPI", "x")],
            [_projected("secret", "a/b"), _projected("secret", "a/b")],
            [_projected("secret", "x"), _projected("configMap", "x")],
        )
    ),
    (
        "spec.volumes[0].projected.sources[0]",
        _volume(projected={"sources": [_projected("secret", "x") | _projected("configMap", "y")]}),
    ),
    (
        "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds",
        _volume(projected={"sources": [{"serviceAccountToken": {"path": "x", "expirationSeconds": 1}}]}),
    ),
    ("spec.volumes[0].secret.items[0].key", _volume(secret={"secretName": "c", "items": [{"key": "", "path": "x"}]})),
    ("spec.volumes[0].secret.secretName", _volume(secret={"secretName": ""})),
    ("spec.volumes[0].secret", _volume(emptyDir={}, secret={"secretName": "c"})),
    ("spec.volumes[1].name", {"volumes": [{"name": "v", "emptyDir": {}}] * 2}),
    *(
        ("spec.volumes[0].name", {"volumes": [{"name": name, "emptyDir": {}}]})
        for name in ("../x", ".", "a/b", "A", "", "x" * 64, "a\0")
    ),
    (f"{C}.volumeMounts[0].name", _container(volumeMounts=[{"name": "../x", "mountPath": "/v"}])),
    (f"{C}.volumeMounts.mountPropagation", _mounted(mountPropagation="Bidirectional")),
    (f"{C}.volumeMounts.recursiveReadOnly", _mounted(recursiveReadOnly="Enabled")),
    (
        f"{C}.volumeMounts[1].mountPath",
        {
            "volumes": [{"name": "v", "emptyDir": {}}],
            **_container(volumeMounts=[{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/v"}]),
        },
    ),
    (
        f"{C}.env[0].valueFrom.configMapKeyRef.key",
        _container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "../x"}}}]),
    ),
    (
        f"{C}.env[0].valueFrom.secretKeyRef.name",
        _container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "../c", "key": "x"}}}]),
    ),
    (f"{C}.envFrom[0].configMapRef.name", _container(envFrom=[{"configMapRef": {"name": "a/../b"}}])),
    (
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        _container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.containers"}}}]),
    ),
    # pods that no kernel or no kubelet takes
    (f"{C}.securityContext.procMount", _context(procMount="Unmasked")),
    (f"{C}.securityContext.capabilities.add[0]", _context(capabilities={"add": [""]})),
    (f"{C}.securityContext.capabilities.drop[0]", _context(capabilities={"drop": ["ALL\n"]})),
    (f"{C}.securityContext", _context(allowPrivilegeEscalation=False, capabilities={"add": ["CAP_SYS_ADMIN"]})),
    ("spec.securityContext.shareProcessNamespace", {"shareProcessNamespace": True, "hostPID": True}),
    ("spec.securityContext.fsGroupChangePolicy", {"securityContext": {"fsGroupChangePolicy": "Never"}}),
    ("spec.securityContext.seccompProfile.type", {"securityContext": {"seccompProfile": {"type": "localhost"}}}),
    (
        f"{C}.securityContext.appArmorProfile.localhostProfile",
        _context(appArmorProfile={"type": "Localhost", "localhostProfile": ""}),
    ),
    ("spec.containers", {"containers": []}),
    ("spec.containers[1].name", {"containers": [{"name": "app", "image": "e:1"}] * 2}),
    ("spec.initContainers[0].name", {"initContainers": [{"name": "app", "image": "e:1"}]}),
    *((f"{C}.name", {"containers": [{"name": name, "image": "e:1"}]}) for name in ("..", "../x", "a/b", "a b", "")),
    (f"{C}.image", _container(image="")),
    (f"{C}.image", _container(image=" a")),
    (f"{C}.imagePullPolicy", _container(imagePullPolicy="always")),
    (f"{C}.terminationMessagePolicy", _container(terminationMessagePolicy="file")),
    *(
        (f"{C}.ports[0].containerPort", _container(ports=[{"containerPort": port}]))
        for port in (0, -1, 65536, 2**31 - 1)
    ),
    (f"{C}.ports[0].protocol", _container(ports=[{"containerPort": 1, "protocol": "tcp"}])),
    (f"{C}.ports[0].hostPort", {"hostNetwork": True, **_container(ports=[{"containerPort": 1, "hostPort": 2}])}),
    (
        f"{C}.ports[1].hostPort",
        _container(ports=[{"containerPort": 1, "hostPort": 1}, {"containerPort": 2, "hostPort": 1}]),
    ),
    (f"{C}.livenessProbe", _container(livenessProbe={"periodSeconds": 1})),
    (f"{C}.livenessProbe.timeoutSeconds", _container(livenessProbe={"tcpSocket": {"port": 1}, "timeoutSeconds": -1})),
    (f"{C}.livenessProbe.tcpSocket.port", _container(livenessProbe={"tcpSocket": {"port": 70000}})),
    (
        f"{C}.livenessProbe.httpGet.scheme",
        _container(livenessProbe={"httpGet": {"path": "/", "port": 1, "scheme": "FILE"}}),
    ),
    (
        f"{C}.livenessProbe.httpGet.httpHeaders",
        _container(
            livenessProbe={"httpGet": {"path": "/", "port": 1, "httpHeaders": [{"name": "a\r\nb", "value": "c"}]}}
        ),
    ),
    (f"{C}.lifecycle.preStop.sleep", _container(lifecycle={"preStop": {"sleep": {"seconds": -1}}})),
    (f"{C}.resources.limits[cpu]", _container(resources={"limits": {"cpu": "-1"}})),
    (f"{C}.resources.requests", _container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}})),
    (f"{C}.resources.limits[disk]", _container(resources={"limits": {"disk": "1"}})),
    ("spec.restartPolicy", {"restartPolicy": "Sometimes"}),
    ("spec.dnsPolicy", {"dnsPolicy": "clusterfirst"}),
    ("spec.hostUsers", {"hostUsers": False}),
    ("spec.os", {"os": {"name": "plan9"}}),
    ("spec.tolerations[0].operator", {"tolerations": [{"key": "a", "operator": "Like"}]}),
    ("spec.nodeSelector", {"nodeSelector": {"a b": "c"}}),
    ("spec.ephemeralContainers", {"ephemeralContainers": [{"name": "e", "image": "e:1"}]}),
]


@pytest.mark.parametrize(("field", "spec"), HOSTILE, ids=[f"{i}-{row[0]}" for i, row in enumerate(HOSTILE)])
def test_a_hostile_pod_is_refused_with_its_field(
    world: World, namespace: str, field: str, spec: dict[str, Any]
) -> None:
    _refused(world, pod("p", namespace, **spec), field)


@pytest.mark.parametrize(
    "spec",
    [
        _mounted(subPath="a/b"),
        _mounted(subPathExpr="$(A)/b"),
        _container(terminationMessagePath="/dev/x"),
        _volume(configMap={"name": "c", "defaultMode": 0o777}),
        _context(runAsUser=2**31 - 1, runAsGroup=0),
        _sysctl("net.ipv4.ip_unprivileged_port_start"),
        _sysctl("net/core/somaxconn"),
        _volume(gitRepo={"repository": "https://x/y", "directory": "a/..b"}),
        _volume(csi={"driver": "CSI.example.com"}),
        _container(resources={"limits": {"memory": "16Mi"}}),
        _container(env=[{"name": "A", "value": "ü\n\t"}]),
        _context(capabilities={"add": ["NET_ADMIN", "CAP_SYS_ADMIN"], "drop": ["ALL"]}),
    ],
)
def test_a_pod_that_kubernetes_takes_is_taken(world: World, namespace: str, spec: dict[str, Any]) -> None:
    world.cluster.create(pod("p", namespace, **spec))


def test_a_template_is_held_to_the_same_rules(world: World, namespace: str) -> None:
    for kind, prefix in (("Deployment", "spec.template.spec"), ("DaemonSet", "spec.template.spec")):
        body = {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": "x", "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": _mounted(subPath="../x")},
            },
        }
        _refused(world, body, f"{prefix}.containers[0].volumeMounts.subPath")
