"""Proxies get a new version. Where they live in the application's pods, the application restarts with them."""

from __future__ import annotations

from chaos.engine import upgrade
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.recreate import Recreate
from chaos.faults.restart import Restart


@scenario("proxy-upgraded", faults=(Restart,))
def proxy_upgraded(trial: Trial) -> None:
    """A rolling restart of proxies restarts the applications that hold them, and no other; its price is counted."""
    upgrade.watch(trial, Restart())


@scenario(
    "proxy-recreated",
    faults=(Recreate,),
    reference_mesh_only="it would delete a workload of yours: proxy-upgraded restarts it",
)
def proxy_recreated(trial: Trial) -> None:
    """Proxies that are deleted and created anew restart the applications that hold them, and no other; its price is
    counted.
    """
    upgrade.watch(trial, Recreate())
