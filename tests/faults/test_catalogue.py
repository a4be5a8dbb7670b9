"""Faults by name, and their settings."""

from __future__ import annotations

import pytest

from chaos.errors import Misuse
from chaos.faults.catalogue import FAULTS, fault_class, fault_from
from chaos.faults.kill import Kill
from chaos.faults.model import Fault, settings_of
from chaos.model.faulting import FaultShape


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_of_the_catalogue_keeps_the_protocol(name: str) -> None:
    found = fault_class(name)
    assert found.name == name
    assert found.shape in FaultShape
    assert all(hasattr(found, method) for method in ("plan", "inject", "recover"))


def test_a_fault_comes_back_from_its_settings() -> None:
    fault: Fault = Kill(signal=15)
    assert fault_from("kill", settings_of(fault)) == fault


def test_an_unknown_fault_names_those_that_exist() -> None:
    with pytest.raises(Misuse, match=r"known are .*kill"):
        fault_class("kil")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(Misuse, match="no setting signl"):
        fault_from("kill", {"signl": 9})
