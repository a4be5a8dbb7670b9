"""Proxies get a new version. Where they live in the application's pods, the application restarts with them."""

from __future__ import annotations

from chaos.engine import upgrade
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial
from chaos.faults.recreate import Recreate
from chaos.faults.restart import Restart
from chaos.faults.upgrade import Upgrade


@scenario("proxy-upgraded", faults=(Restart, Upgrade))
def proxy_upgraded(trial: Trial) -> None:
    """A rolling restart of proxies (with a version that is asked for: their change to it, and back) restarts the
    applications that hold them, and no other; its price is counted.
    """
    upgrade.watch(trial, Restart(), version=trial.deployment.settings.proxy_version)


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
