"""Clashes, guards, the stop port, selection, settings: what is decided before anything is touched."""

from __future__ import annotations

import socket
import urllib.request
from dataclasses import replace
from typing import Any

import pytest

from chaos.commands.faults import parse_seconds, parse_settings
from chaos.embedded.api.errors import StatusError
from chaos.embedded.api.trouble import parse_trouble
from chaos.errors import Misuse
from chaos.faults.clashes import detect_clash, overlap, refuse_clashes
from chaos.faults.delete_pod import DeletePod
from chaos.faults.drain import Drain
from chaos.faults.guards import Guard
from chaos.faults.hog import Hog
from chaos.faults.kill import Kill
from chaos.faults.model import Fault, Receipt, Target
from chaos.faults.network.degrade import Degrade
from chaos.faults.network.dns import Dns
from chaos.faults.network.drop import Drop
from chaos.faults.pause import Pause
from chaos.faults.restart import Restart
from chaos.faults.selection import Candidates, Selector
from chaos.faults.stop_signal import StopSignal
from chaos.faults.throttle import Throttle
from chaos.faults.upgrade import Upgrade, plan_template
from chaos.faults.watchdog import grace_of, plan_due
from chaos.faults.workload import bare, rolled_out
from chaos.inpod.dns_helper import Wrong, nameserver, plan_answer, plan_question, question
from chaos.inpod.oom_helper import detect_directory
from chaos.inpod.rules import Isolation, plan_isolation
from chaos.mesh.controlplane.injected_failures import InjectedFailures, detect_injected_failures
from chaos.model.modes import MODES
from tests.mesh.controlplane.objects import Object, pod, proxy_pod, sidecar_pod

PROXY = Target("container", "server-1-x", "ns", "u1", "proxy", "containerd://1", "n1", labels="app=server,x=1")
APP = Target("container", "server-1-x", "ns", "u1", "app", "containerd://2", "n1", labels="app=server,x=1")
ELSEWHERE = Target("container", "client-1-y", "ns", "u2", "app", "containerd://3", "n2", labels="app=client")
CANARY = Target("container", "server-canary-1-z", "ns", "u4", "app", "containerd://4", "n2", labels="app=server-canary")
SERVER = Target("workload", "server", "ns", "u3", workload_kind="Deployment", selector="app=server")
STABLE = replace(SERVER, selector="app in (server,server-canary),!x")
NODE = Target("node", "n1", node="n1")


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ((Kill(), PROXY), (Pause(), PROXY), True),  # the same life
        ((Kill(), PROXY), (Pause(), APP), False),  # another container's
        ((Kill(), PROXY), (Throttle(), PROXY), False),  # another aspect
        ((Degrade(loss=0.1), PROXY), (Degrade(delay_ms=5), APP), True),  # a pod has one link
        ((DeletePod(), PROXY), (Throttle(), APP), True),  # the whole pod goes
        ((Restart(), SERVER), (Throttle(), PROXY), True),  # one of its pods
        ((Restart(), SERVER), (Throttle(), ELSEWHERE), False),
        ((Restart(), SERVER), (Throttle(), CANARY), False),  # its name begins as the workload's does
        ((Restart(), STABLE), (Throttle(), CANARY), True),  # by expressions, not by labels alone
        ((Restart(), STABLE), (Throttle(), PROXY), False),
        ((Drain(), NODE), (Pause(), APP), True),
        ((Drain(), NODE), (Pause(), ELSEWHERE), False),
        ((Hog(), PROXY), (Hog(), PROXY), False),  # neighbours get along
    ],
)
def test_faults_clash_when_one_would_undo_what_the_other_broke(
    one: tuple[Fault, Target], other: tuple[Fault, Target], clash: bool
) -> None:
    assert bool(detect_clash(one, other)) is clash
    assert bool(detect_clash(other, one)) is clash


def test_every_clash_is_named_at_once() -> None:
    with pytest.raises(Misuse, match=r"kill .* and pause .*; kill .* and kill"):
        refuse_clashes([(Kill(), PROXY), (Pause(), PROXY), (Kill(), PROXY)])


def test_a_namesake_elsewhere_does_not_overlap() -> None:
    assert not overlap(PROXY, Target("container", "server-1-x", "other", container="proxy"))


def test_a_guard_that_cannot_see_does_not_guard() -> None:
    def broken() -> float:
        raise OSError("no data")

    assert Guard("errors", broken, 1.0).tripped() == "errors cannot be measured: OSError: no data"
    assert Guard("errors", lambda: 0.5, 1.0).tripped() == ""
    assert "above its limit 1" in Guard("errors", lambda: 2.0, 1.0).tripped()
    assert "below its limit 1" in Guard("rate", lambda: 0.5, 1.0, below=True).tripped()


class Unmarked:
    """A cluster in which nobody asked for a stop."""

    def find(self, kind: str, name: str, namespace: str) -> None:
        return None


def test_a_post_to_the_stop_port_presses_the_button() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    button = StopSignal(Unmarked(), port=port)  # type: ignore[arg-type]
    assert button.requested() == ""
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}/stop", method="POST"), timeout=5
    ) as answer:
        assert answer.status == 202
    assert button.requested() == "a POST to the stop port"


class Marked:
    """A cluster in which somebody asked for a stop at a time."""

    def find(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return {"metadata": {"annotations": {"sharedfate.io/pressed-at": "100"}}, "data": {"why": "drill"}}


def test_an_old_press_does_not_stop_a_new_runner() -> None:
    assert StopSignal(Marked(), since=50).requested() == "`sharedfate stop`: drill"  # type: ignore[arg-type]
    assert StopSignal(Marked(), since=150).requested() == ""  # type: ignore[arg-type]


def test_the_newest_overdue_receipt_is_undone_first() -> None:
    made = [
        Receipt(str(number), "r", "kill", {}, PROXY, deadline) for number, deadline in ((1, 10), (2, 20), (3, 10**12))
    ]
    assert [one.id for one in plan_due(made, now=10**9, grace=0.5)] == ["2", "1"]
    assert plan_due(made, now=10**9, grace=2.0) == []
    assert 0 <= grace_of("watchdog-abc") <= 1.5


# ---- selection


def candidates(mode: str, *pods: Object) -> Candidates:
    return Candidates.of(pods, MODES[mode])


def test_a_proxy_serves_by_its_scope() -> None:
    here, there = pod("app", node="n1"), pod("other", node="n2", namespace="tenant-b")
    for mode, proxy, serves in (
        ("node", proxy_pod(node="n1"), [True, False]),
        (
            "ambient-namespace",
            proxy_pod("w", node="n2", namespace="tenant-a", layer="l7", scope="namespace"),
            [True, False],
        ),
        ("ambient-pod", proxy_pod(node="n2", namespace="tenant-a", layer="l7", scope="pod", key="app"), [True, False]),
        ("none", proxy_pod(node="n1", layer="none"), [False, False]),
    ):
        known = candidates(mode, here, there, proxy)
        found = known.proxy(proxy)
        assert found is not None
        assert [known.serves(found, one) for one in (here, there)] == serves, mode
    own = sidecar_pod("own", node="n1")
    known = candidates("sidecar", here, own)
    sidecar = known.proxy(own)
    assert sidecar is not None
    assert [known.serves(sidecar, one) for one in (own, here)] == [True, False]
    assert known.proxy(here) is None


def test_without_a_mesh_nobody_is_a_proxy() -> None:
    assert Candidates.of([proxy_pod(), sidecar_pod()], None).proxies == {}


def test_a_wrong_selector_names_every_problem() -> None:
    with pytest.raises(Misuse, match=r"layer is 'l8'.*workload is 'Job/x'.*behind is 'p'"):
        Selector(layer="l8", workload="Job/x", behind="p")
    with pytest.raises(Misuse, match="nothing is said"):
        Selector()


# ---- settings


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10.0), ("500ms", 0.5), ("2m", 120.0), ("3", 3.0), ("1.5s", 1.5)])
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


def test_a_wrong_time_is_refused() -> None:
    with pytest.raises(Misuse, match="want 10s"):
        parse_seconds("soon")


def test_settings_are_read_as_the_faults_own_types() -> None:
    assert parse_settings(Drop, ("ports=80,443", "peers=10.0.0.1", "direction=in")) == {
        "ports": (80, 443),
        "peers": ("10.0.0.1",),
        "direction": "in",
    }
    assert parse_settings(DeletePod, ("grace=0",)) == {"grace": 0}
    assert parse_settings(DeletePod, ("grace=none",)) == {"grace": None}
    assert parse_settings(Upgrade, ("env=A=1,B=2", "whole=false")) == {"env": {"A": "1", "B": "2"}, "whole": False}


def test_wrong_settings_are_all_named() -> None:
    with pytest.raises(Misuse, match=r"grace is not known here.*signal is 'x', and should be a whole number"):
        parse_settings(Kill, ("signal=x", "grace=1"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Drop(direction="up"),  # type: ignore[arg-type]  # what users write is not typed
        lambda: Drop(ports=(0,)),
        lambda: Drop(peers=("nobody",)),
        lambda: Dns(answer="maybe"),  # type: ignore[arg-type]
        lambda: Dns(address="x"),
        lambda: Hog(cores=0),
        lambda: Upgrade(),
    ],
)
def test_a_setting_that_means_nothing_is_refused(make: Any) -> None:
    with pytest.raises(Misuse):
        make()


# ---- rules and wire


def test_packets_of_one_peer_one_port_and_one_direction_are_meant_and_no_others() -> None:
    script = plan_isolation(
        "r", Isolation(frozenset(), whole=True, peers=("10.0.0.1",), only=frozenset({80}), out=False)
    )
    into, out = script.split("chain out")
    assert "ip saddr { 10.0.0.1 } meta l4proto { tcp, udp } th dport { 80 } counter drop" in into
    assert "drop" not in out


def test_a_reset_answers_tcp_alone() -> None:
    assert "meta l4proto tcp counter reject with tcp reset" in plan_isolation(
        "r", Isolation(frozenset(), whole=True, reset=True)
    )


def test_a_lie_answers_addresses_and_a_failure_says_its_code() -> None:
    asked = plan_question("server.tenant-a.svc.cluster.local")
    name, kind, _ = question(asked)
    assert (name, kind) == ("server.tenant-a.svc.cluster.local", 1)
    lie = plan_answer(asked, Wrong("lie", "192.0.2.1", ()))
    assert lie is not None
    assert lie.endswith(socket.inet_aton("192.0.2.1"))
    for answer, code in (("servfail", 2), ("nxdomain", 3)):
        said = plan_answer(asked, Wrong(answer, "192.0.2.1", ()))
        assert said is not None
        assert said[3] & 0x0F == code
    assert plan_answer(asked, Wrong("silence", "192.0.2.1", ())) is None


def test_names_are_meant_by_their_ends() -> None:
    wrong = Wrong("lie", "192.0.2.1", ("tenant-a.svc",))
    assert [wrong.meant(name) for name in ("x.tenant-a.svc", "tenant-a.svc", "xtenant-a.svc", "y.tenant-b.svc")] == [
        True,
        True,
        False,
        False,
    ]


def test_what_is_no_question_is_not_answered() -> None:
    with pytest.raises(ValueError, match="not a question"):
        question(b"\0" * 11)


def test_the_first_name_server_is_asked() -> None:
    assert nameserver("search x\nnameserver 10.96.0.10\nnameserver 1.1.1.1\n") == "10.96.0.10"
    with pytest.raises(LookupError):
        nameserver("search x\n")


@pytest.mark.parametrize(
    ("mounts", "cgroups", "found"),
    [
        (
            "1 2 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "4:memory:/kubepods/podX/c\n0::/\n",
            ("/sys/fs/cgroup/memory/kubepods/podX/c", "memory.limit_in_bytes"),
        ),
        (
            "1 2 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "0::/kubepods.slice/c.scope\n",
            ("/sys/fs/cgroup/kubepods.slice/c.scope", "memory.max"),
        ),
        (
            "1 2 0:1 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "0::/../../kubepods/c\n",
            ("/sys/fs/cgroup/kubepods/c", "memory.max"),
        ),
    ],
)
def test_a_containers_memory_cgroup_is_found_in_both_versions(
    mounts: str, cgroups: str, found: tuple[str, str]
) -> None:
    assert detect_directory(mounts, cgroups) == found


# ---- workloads and the control plane


def test_a_workload_is_created_again_without_what_the_server_wrote() -> None:
    made = {
        "kind": "Deployment",
        "metadata": {
            "name": "x",
            "namespace": "n",
            "uid": "1",
            "resourceVersion": "2",
            "labels": {"a": "b"},
            "annotations": {"deployment.kubernetes.io/revision": "3", "own": "4"},
        },
        "spec": {"replicas": 1},
        "status": {"replicas": 1},
    }
    assert bare(made) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"replicas": 1},
        "metadata": {"name": "x", "namespace": "n", "labels": {"a": "b"}, "annotations": {"own": "4"}},
    }


def test_a_workload_is_rolled_out_when_its_newest_pods_are_all_ready() -> None:
    whole = {
        "kind": "Deployment",
        "metadata": {"generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2},
    }
    assert rolled_out(whole)
    for part, value in (("observedGeneration", 1), ("replicas", 3), ("readyReplicas", 1), ("updatedReplicas", 1)):
        assert not rolled_out({**whole, "status": {**whole["status"], part: value}})  # type: ignore[dict-item]


def test_an_upgrade_that_changes_nothing_is_refused() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "x:1", "env": [{"name": "K", "value": "1"}]}]}}
    with pytest.raises(Misuse, match="so already"):
        plan_template(template, Upgrade(env={"K": "1"}))
    with pytest.raises(Misuse, match="no container 'b'"):
        plan_template(template, Upgrade(container="b", image="x:2"))
    changed = plan_template(template, Upgrade(image="x:2", env={"L": "2"}))["spec"]["containers"][0]
    assert (changed["image"], len(changed["env"])) == ("x:2", 2)


def test_the_control_plane_makes_the_worst_of_what_is_asked() -> None:
    asked = {
        "mesh.json": "{}",
        "fault-1.json": '{"delay": 2}',
        "fault-2.json": '{"delay": 5, "certificate_seconds": 9}',
        "fault-3.json": '{"certificate_seconds": 3}',
    }
    assert detect_injected_failures(asked) == InjectedFailures(False, 5.0, 3.0)
    assert detect_injected_failures({"mesh.json": "{}"}) == InjectedFailures()


def test_trouble_of_the_api_server_that_means_nothing_is_refused() -> None:
    with pytest.raises(StatusError, match=r"code is 200.*share is 2.*seconds is 0"):
        parse_trouble({"share": 2, "code": 200})
    with pytest.raises(StatusError, match="nothing would happen"):
        parse_trouble({"seconds": 5})
