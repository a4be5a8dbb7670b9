"""What a compromised proxy would give away: the private keys that each instance holds are those that the model says."""

from __future__ import annotations

from chaos.engine.features.context import check_context
from chaos.engine.features.identities import check_identities, check_refusals
from chaos.engine.scenario import scenario, without_proxies
from chaos.engine.trial import Trial


@scenario(
    "identities-exposed",
    skip_reason=without_proxies,
    reference_mesh_only="it reads keys out of our own proxies' admin port",
)
def identities_exposed(trial: Trial) -> None:
    """Each proxy holds the private keys of just those that it serves, a waypoint its own alone."""
    try:
        with check_context(trial.deployment.reference_mesh) as where:
            for check in (*check_identities(where), *check_refusals(where)):
                trial.show(check)
    finally:
        trial.restore_load(*trial.deployment.tenants)
