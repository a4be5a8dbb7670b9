"""Pod Security admission: the standards *baseline* and *restricted*, chosen by namespace labels. Pure.

A check returns a pod's violation of its standard, in Kubernetes' words. Rules, versions and words are those of
k8s.io/pod-security-admission 0.36; the server checks when a pod, a workload's template or a namespace is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from chaos.embedded.resources import Object

PREFIX: Final = "pod-security.kubernetes.io/"
LEVELS: Final = ("privileged", "baseline", "restricted")  # each allows less than the one before
LATEST: Final = 10_000  # later than every minor version
Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Violation:
    """A pod's violation of a standard."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class LevelVersion:
    """A standard at a minor version of Kubernetes."""

    level: str = "privileged"
    minor: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"


@dataclass(frozen=True, slots=True)
class Policy:
    """A namespace's policy: levels to enforce, audit and warn."""

    enforce: LevelVersion = LevelVersion()
    audit: LevelVersion = LevelVersion()
    warn: LevelVersion = LevelVersion()


def policy_of(labels: Mapping[str, str]) -> tuple[Policy, list[tuple[str, str, str]]]:
    """The policy of a namespace's labels, and (label, value, problem) of each invalid one.

    An invalid level is *restricted* for enforce, and ignored for the others. Warnings follow the enforced level
    unless a label sets them.
    """
    policy, problems = Policy(), []
    for mode in ("enforce", "audit", "warn"):
        asked: LevelVersion = getattr(policy, mode)
        if (level := labels.get(PREFIX + mode)) is not None:
            if level not in LEVELS:
                problems.append((PREFIX + mode, level, f"must be one of {', '.join(LEVELS)}"))
                level = "restricted" if mode == "enforce" else "privileged"
            asked = replace(asked, level=level)
        if (version := labels.get(PREFIX + mode + "-version")) is not None:
            found = re.fullmatch(r"v1\.(0|[1-9][0-9]*)", version)
            if version != "latest" and found is None:
                problems.append((PREFIX + mode + "-version", version, 'must be "latest" or "v1.x"'))
            asked = replace(asked, minor=int(found[1]) if found else LATEST)
        policy = replace(policy, **{mode: asked})
    known = labels.get(PREFIX + "enforce") in LEVELS
    if known and PREFIX + "warn" not in labels and stricter(policy.enforce.level, policy.warn.level):
        minor = policy.warn.minor if PREFIX + "warn-version" in labels else policy.enforce.minor
        policy = replace(policy, warn=LevelVersion(policy.enforce.level, minor))
    return policy, problems


def stricter(level: str, than: str) -> bool:
    return LEVELS.index(level) > LEVELS.index(than)


def violations(asked: LevelVersion, metadata: Mapping[str, Any], spec: Spec) -> list[Violation]:
    """All violations of the standard by the pod."""
    if asked.level == "privileged":
        return []
    levels = ("baseline",) if asked.level == "baseline" else ("baseline", "restricted")
    due = [check for level in levels for check in CHECKS if check.level == level and check.since <= asked.minor]
    overridden = {check.overrides for check in due}
    found = (check.find(metadata, spec, asked.minor) for check in due if check.name not in overridden)
    return [violation for violation in found if violation is not None]


def describe(found: Iterable[Violation]) -> str:
    return ", ".join(map(str, found))


def is_significant(old: Object, new: Object) -> bool:
    """Whether a pod's update is checked again: it changes a container or an image."""
    for kind in ("containers", "initContainers"):
        before, after = old["spec"].get(kind) or [], new["spec"].get(kind) or []
        if [c.get("image") for c in before] != [c.get("image") for c in after]:
            return True
    guests = {c["name"]: c.get("image") for c in old["spec"].get("ephemeralContainers") or []}
    return any(
        guests.get(c["name"], "") != c.get("image") or c["name"] not in guests
        for c in new["spec"].get("ephemeralContainers") or []
    )


def template_of(obj: Object) -> tuple[Mapping[str, Any], Spec] | None:
    """Metadata and spec of a workload's pod template; None for other kinds."""
    spec = obj.get("spec") or {}
    if obj["kind"] == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    template = obj.get("template") if obj["kind"] == "PodTemplate" else spec.get("template")
    return (template.get("metadata") or {}, template.get("spec") or {}) if isinstance(template, dict) else None


def warnings_of_namespace(name: str, enforce: LevelVersion, pods: Sequence[Object]) -> list[str]:
    """Violations of the newly enforced standard by a namespace's existing pods."""
    held: dict[str, list[str]] = {}
    for pod in pods:
        if found := violations(enforce, pod["metadata"], pod["spec"]):
            held.setdefault(", ".join(one.reason for one in found), []).append(pod["metadata"]["name"])
    if not held:
        return []
    lines = []
    for reasons, names in held.items():
        more = len(names) - 1
        others = f" (and {more} other pod{'s' if more > 1 else ''})" if more else ""
        lines.append(f"{min(names)}{others}: {reasons}")
    return [
        f'existing pods in namespace "{name}" violate the new PodSecurity enforce level "{enforce}"',
        *sorted(lines),
    ]


@dataclass(frozen=True, slots=True)
class Review:
    """The review of one write: a refusal ("" for none), warnings, audit annotations."""

    refused: str = ""
    warnings: tuple[str, ...] = ()
    audit: str = ""


def review(labels: Mapping[str, str], metadata: Mapping[str, Any], spec: Spec, *, enforce: bool) -> Review:
    """Review a pod, or (`enforce` False: only pods are refused) a workload's template, by a namespace's labels."""
    policy, _ = policy_of(labels)
    if enforce and (found := violations(policy.enforce, metadata, spec)):
        return Review(refused=f'violates PodSecurity "{policy.enforce}": {describe(found)}')
    warned, noted = (
        f'would violate PodSecurity "{asked}": {describe(found)}'
        if (found := violations(asked, metadata, spec))
        else ""
        for asked in (policy.warn, policy.audit)
    )
    return Review(warnings=(warned,) if warned else (), audit=noted)


# ---- the checks

Find = Callable[[Mapping[str, Any], Spec, int], Violation | None]


@dataclass(frozen=True, slots=True)
class LevelCheck:
    """One rule of a standard since a minor version; `overrides` names the weaker rule that it replaces."""

    name: str
    level: str
    since: int
    find: Find
    overrides: str = ""


def _containers(spec: Spec) -> Iterator[Mapping[str, Any]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or []


def _context(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return part.get("securityContext") or {}


def _quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)


def _these(word: str, items: Sequence[str]) -> str:
    """Names in a message: `container "a"`, `containers "a", "b"`."""
    return f"{word}{'' if len(items) == 1 else 's'} {_quoted(items)}"


def _setters(spec: Spec, bad: Callable[[Mapping[str, Any]], bool]) -> str:
    """The setters of a bad value: `pod and container "a"`."""
    names = [c["name"] for c in _containers(spec) if bad(_context(c))]
    return " and ".join([*(["pod"] if bad(_context(spec)) else []), *([_these("container", names)] if names else [])])


def _is_windows(spec: Spec) -> bool:
    return bool((spec.get("os") or {}).get("name") == "windows")


def _is_in_user_namespace(spec: Spec) -> bool:
    return spec.get("hostUsers") is False


def _privilege_escalation(_: Mapping[str, Any], spec: Spec, minor: int) -> Violation | None:
    if minor >= 25 and _is_windows(spec):
        return None
    bad = [c["name"] for c in _containers(spec) if _context(c).get("allowPrivilegeEscalation") is not False]
    detail = f"{_these('container', bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Violation("allowPrivilegeEscalation != false", detail) if bad else None


def _app_armor(metadata: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    def kind(context: Mapping[str, Any]) -> str | None:
        return (context.get("appArmorProfile") or {}).get("type")

    def is_bad(context: Mapping[str, Any]) -> bool:
        return kind(context) not in (None, "RuntimeDefault", "Localhost")

    values = {str(kind(_context(part))) for part in (spec, *_containers(spec)) if is_bad(_context(part))}
    notes = sorted(
        f'{key}="{value}"'
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith("container.apparmor.security.beta.kubernetes.io/")
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    setters = [
        text for text in (_setters(spec, is_bad), "annotation" + "s" * (len(notes) > 1) if notes else "") if text
    ]
    if not setters:
        return None
    bad = [*sorted(values), *notes]
    reason = "forbidden AppArmor profile" + ("s" if len(bad) > 1 else "")
    return Violation(reason, f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(bad)}")


_DEFAULT_CAPABILITIES: Final = frozenset(
    {
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
        *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    }
)


def _added(spec: Spec, allowed: frozenset[str]) -> str:
    """`container "a" must not include "X" in securityContext.capabilities.add`; "" when none adds too much."""
    bad: dict[str, list[str]] = {}
    for container in _containers(spec):
        added = (_context(container).get("capabilities") or {}).get("add") or []
        if more := [name for name in added if name not in allowed]:
            bad[container["name"]] = more
    names = sorted({name for more in bad.values() for name in more})
    text = f"{_these('container', list(bad))} must not include {_quoted(names)} in securityContext.capabilities.add"
    return text if bad else ""


def _default_capabilities(_: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    detail = _added(spec, _DEFAULT_CAPABILITIES)
    return Violation("non-default capabilities", detail) if detail else None


def _dropped_capabilities(_: Mapping[str, Any], spec: Spec, minor: int) -> Violation | None:
    if minor >= 25 and _is_windows(spec):
        return None
    keeping = [
        c["name"] for c in _containers(spec) if "ALL" not in ((_context(c).get("capabilities") or {}).get("drop") or [])
    ]
    kept = f'{_these("container", keeping)} must set securityContext.capabilities.drop=["ALL"]' if keeping else ""
    details = [text for text in (kept, _added(spec, frozenset({"NET_BIND_SERVICE"}))) if text]
    return Violation("unrestricted capabilities", "; ".join(details)) if details else None


def _host_namespaces(_: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    bad = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return Violation("host namespaces", ", ".join(bad)) if bad else None


def _host_paths(_: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    bad = [volume["name"] for volume in spec.get("volumes") or [] if volume.get("hostPath") is not None]
    return Violation("hostPath volumes", _these("volume", bad)) if bad else None


def _host_ports(_: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    bad = {
        c["name"]: [str(port["hostPort"]) for port in c.get("ports") or [] if port.get("hostPort")]
        for c in _containers(spec)
    }
    names = [name for name, ports in bad.items() if ports]
    ports = sorted({port for held in bad.values() for port in held})
    verb, noun = "uses" if len(names) == 1 else "use", "hostPort" + ("" if len(ports) == 1 else "s")
    return Violation("hostPort", f"{_these('container', names)} {verb} {noun} {', '.join(ports)}") if names else None


def _host_handlers(_: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    bad: dict[str, set[str]] = {}
    for container in _containers(spec):
        hooks = container.get("lifecycle") or {}
        handlers = [container.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
        for handler in (*handlers, hooks.get("postStart"), hooks.get("preStop")):
            for kind in ("httpGet", "tcpSocket"):
                if host := ((handler or {}).get(kind) or {}).get("host"):
                    bad.setdefault(container["name"], set()).add(host)
    names, hosts = sorted(bad), sorted({host for held in bad.values() for host in held})
    verb, noun = "uses" if len(names) == 1 else "use", "probe or lifecycle host" + ("" if len(hosts) == 1 else "s")
    detail = f"{_these('container', names)} {verb} {noun} {_quoted(hosts)}"
    return Violation("probe or lifecycle host", detail) if bad else None


def _privileged(_: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    bad = [c["name"] for c in _containers(spec) if _context(c).get("privileged")]
    detail = f"{_these('container', bad)} must not set securityContext.privileged=true"
    return Violation("privileged", detail) if bad else None


def _proc_mount(_: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    bad = {c["name"]: _context(c)["procMount"] for c in _containers(spec) if _context(c).get("procMount")}
    bad = {name: kind for name, kind in bad.items() if kind != "Default"}
    kinds = _quoted(sorted(set(bad.values())))
    detail = f"{_these('container', list(bad))} must not set securityContext.procMount to {kinds}"
    return Violation("procMount", detail) if bad else None


def _proc_mount_baseline(metadata: Mapping[str, Any], spec: Spec, minor: int) -> Violation | None:
    return None if minor >= 35 and _is_in_user_namespace(spec) else _proc_mount(metadata, spec, minor)


_VOLUMES: Final = frozenset(
    {
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected"),
        "secret",
    }
)
_OTHER_VOLUMES: Final = (
    *("hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd"),
    *("flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk"),
    *("photonPersistentDisk", "portworxVolume", "scaleIO", "storageos"),
)


def _volume_types(_: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    bad: dict[str, str] = {}
    for volume in spec.get("volumes") or []:
        held = {name for name, value in volume.items() if value is not None and name != "name"}
        if held and not held & _VOLUMES:  # one that says nothing becomes an emptyDir
            bad[volume["name"]] = next((kind for kind in _OTHER_VOLUMES if kind in held), "unknown")
    kinds = sorted(set(bad.values()))
    verb, noun = "uses" if len(bad) == 1 else "use", "restricted volume type" + ("" if len(kinds) == 1 else "s")
    detail = f"{_these('volume', list(bad))} {verb} {noun} {_quoted(kinds)}"
    return Violation("restricted volume types", detail) if bad else None


def _non_root(_: Mapping[str, Any], spec: Spec, minor: int) -> Violation | None:
    if minor >= 35 and _is_in_user_namespace(spec):
        return None
    if setters := _setters(spec, lambda context: context.get("runAsNonRoot") is False):
        return Violation("runAsNonRoot != true", f"{setters} must not set securityContext.runAsNonRoot=false")
    if _context(spec).get("runAsNonRoot"):
        return None
    silent = [c["name"] for c in _containers(spec) if _context(c).get("runAsNonRoot") is None]
    detail = f"pod or {_these('container', silent)} must set securityContext.runAsNonRoot=true"
    return Violation("runAsNonRoot != true", detail) if silent else None


def _root_user(_: Mapping[str, Any], spec: Spec, minor: int) -> Violation | None:
    if minor >= 35 and _is_in_user_namespace(spec):
        return None
    setters = _setters(spec, lambda context: context.get("runAsUser") == 0)
    return Violation("runAsUser=0", f"{setters} must not set runAsUser=0") if setters else None


def _se_linux(_: Mapping[str, Any], spec: Spec, minor: int) -> Violation | None:
    allowed = {
        "",
        "container_t",
        "container_init_t",
        "container_kvm_t",
        *(["container_engine_t"] if minor >= 31 else []),
    }

    def options(part: Mapping[str, Any]) -> Mapping[str, Any]:
        return part.get("seLinuxOptions") or {}

    def is_bad(context: Mapping[str, Any]) -> bool:
        held = options(context)
        return held.get("type", "") not in allowed or bool(held.get("user")) or bool(held.get("role"))

    setters = _setters(spec, is_bad)
    if not setters:
        return None
    all_options = [options(_context(part)) for part in (spec, *_containers(spec))]
    types = sorted({held.get("type", "") for held in all_options} - allowed)
    data = [_these("type", types)] if types else []
    data += [f"{name} may not be set" for name in ("user", "role") if any(held.get(name) for held in all_options)]
    return Violation("seLinuxOptions", f"{setters} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}")


def _seccomp_kind(context: Mapping[str, Any]) -> str | None:
    profile = context.get("seccompProfile")
    return None if profile is None else str(profile.get("type", ""))


def _bad_seccomp(spec: Spec) -> Violation | None:
    def is_bad(context: Mapping[str, Any]) -> bool:
        return _seccomp_kind(context) not in (None, "RuntimeDefault", "Localhost")

    setters = _setters(spec, is_bad)
    values = sorted({str(_seccomp_kind(_context(p))) for p in (spec, *_containers(spec)) if is_bad(_context(p))})
    detail = f"{setters} must not set securityContext.seccompProfile.type to {_quoted(values)}"
    return Violation("seccompProfile", detail) if setters else None


def _seccomp(metadata: Mapping[str, Any], spec: Spec, minor: int) -> Violation | None:
    if minor >= 19:
        return _bad_seccomp(spec)
    alpha = "seccomp.security.alpha.kubernetes.io/"
    keys = [alpha + "pod", *(f"container.{alpha}{c['name']}" for c in _containers(spec))]
    notes = metadata.get("annotations") or {}
    bad = sorted(
        {
            f'{key}="{notes[key]}"'
            for key in keys
            if key in notes
            and notes[key] not in ("runtime/default", "docker/default")
            and not notes[key].startswith("localhost/")
        }
    )
    noun = "annotation" + ("" if len(bad) == 1 else "s")
    return Violation("seccompProfile", f"forbidden {noun} {', '.join(bad)}") if bad else None


def _seccomp_set(_: Mapping[str, Any], spec: Spec, minor: int) -> Violation | None:
    if minor >= 25 and _is_windows(spec):
        return None
    if (bad := _bad_seccomp(spec)) is not None:
        return bad
    if _seccomp_kind(_context(spec)) is not None:
        return None
    silent = [c["name"] for c in _containers(spec) if _seccomp_kind(_context(c)) is None]
    detail = (
        f"pod or {_these('container', silent)} must set securityContext.seccompProfile.type to "
        '"RuntimeDefault" or "Localhost"'
    )
    return Violation("seccompProfile", detail) if silent else None


_SYSCTLS: Final = {  # allowed since this minor version
    "kernel.shm_rmid_forced": 0,
    "net.ipv4.ip_local_port_range": 0,
    "net.ipv4.tcp_syncookies": 0,
    "net.ipv4.ping_group_range": 0,
    "net.ipv4.ip_unprivileged_port_start": 0,
    "net.ipv4.ip_local_reserved_ports": 27,
    "net.ipv4.tcp_keepalive_time": 29,
    "net.ipv4.tcp_fin_timeout": 29,
    "net.ipv4.tcp_keepalive_intvl": 29,
    "net.ipv4.tcp_keepalive_probes": 29,
    "net.ipv4.tcp_rmem": 32,
    "net.ipv4.tcp_wmem": 32,
}


def _sysctls(_: Mapping[str, Any], spec: Spec, minor: int) -> Violation | None:
    names = [one["name"] for one in _context(spec).get("sysctls") or []]
    bad = [name for name in names if _SYSCTLS.get(name, LATEST + 1) > minor]
    return Violation("forbidden sysctls", ", ".join(bad)) if bad else None


def _host_process(_: Mapping[str, Any], spec: Spec, _minor: int) -> Violation | None:
    setters = _setters(spec, lambda context: bool((context.get("windowsOptions") or {}).get("hostProcess")))
    detail = f"{setters} must not set securityContext.windowsOptions.hostProcess=true"
    return Violation("hostProcess", detail) if setters else None


CHECKS: Final = (  # by level, then by name: the order in which violations are listed
    LevelCheck("appArmorProfile", "baseline", 0, _app_armor),
    LevelCheck("capabilities_baseline", "baseline", 0, _default_capabilities),
    LevelCheck("hostNamespaces", "baseline", 0, _host_namespaces),
    LevelCheck("hostPathVolumes", "baseline", 0, _host_paths),
    LevelCheck("hostPorts", "baseline", 0, _host_ports),
    LevelCheck("hostProbesAndHostLifecycle", "baseline", 34, _host_handlers),
    LevelCheck("privileged", "baseline", 0, _privileged),
    LevelCheck("procMount", "baseline", 0, _proc_mount_baseline),
    LevelCheck("seLinuxOptions", "baseline", 0, _se_linux),
    LevelCheck("seccompProfile_baseline", "baseline", 0, _seccomp),
    LevelCheck("sysctls", "baseline", 0, _sysctls),
    LevelCheck("windowsHostProcess", "baseline", 0, _host_process),
    LevelCheck("allowPrivilegeEscalation", "restricted", 8, _privilege_escalation),
    LevelCheck("capabilities_restricted", "restricted", 22, _dropped_capabilities, "capabilities_baseline"),
    LevelCheck("procMount_restricted", "restricted", 35, _proc_mount, "procMount"),
    LevelCheck("restrictedVolumes", "restricted", 0, _volume_types, "hostPathVolumes"),
    LevelCheck("runAsNonRoot", "restricted", 0, _non_root),
    LevelCheck("runAsUser", "restricted", 23, _root_user),
    LevelCheck("seccompProfile_restricted", "restricted", 19, _seccomp_set, "seccompProfile_baseline"),
)
