"""Faults that would undo or hide one another are refused together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.errors import Misuse
from chaos.faults.catalogue import FAULTS, fault_class
from chaos.faults.clashes import detect_clash, overlap, refuse_clashes
from chaos.faults.delete_pod import DeletePod
from chaos.faults.drain import Drain
from chaos.faults.hog import Hog
from chaos.faults.kill import Kill
from chaos.faults.model import Fault, Target
from chaos.faults.network.degrade import Degrade
from chaos.faults.pause import Pause
from chaos.faults.restart import Restart
from chaos.faults.throttle import Throttle

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


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_clashes_with_itself_on_one_target_but_for_those_that_may_sit_beside_each_other(name: str) -> None:
    fault = fault_class(name)
    made = object.__new__(fault)  # its aspects are its class's, whatever it is set to
    for target in (PROXY, SERVER, NODE, replace(PROXY, kind="pod")):
        if target.kind in fault.targets:
            assert bool(detect_clash((made, target), (made, target))) == (name != "hog")
