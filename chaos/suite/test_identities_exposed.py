"""What a compromised proxy would give away: the private keys that each instance holds, and the servers that they open,
are those that the model says.
"""

from __future__ import annotations

from chaos.engine.features.context import check_context
from chaos.engine.features.identities import check_identities, check_refusals
from chaos.engine.features.own_words import check_dumped
from chaos.engine.features.stolen import check_stolen
from chaos.engine.scenario import scenario, without_proxies
from chaos.engine.trial import Trial


@scenario(
    "identities-exposed",
    skip_reason=without_proxies,
    reference_apps_only="which identities a proxy may hold is known of the reference apps' accounts",
)
def identities_exposed(trial: Trial) -> None:
    """Each proxy holds the private keys of just those that it serves, a waypoint its own alone, and its keys open just
    the servers that these call. Of an installed mesh the proxies' own dumps are believed, and no key is taken.
    """
    if trial.mesh.mode.brought_by:
        for check in check_dumped(trial.mesh):
            trial.show(check)
        return
    try:
        with check_context(trial.deployment.reference_mesh) as where:
            for check in (*check_identities(where), *check_refusals(where), *check_stolen(where)):
                trial.show(check)
    finally:
        trial.restore_load(*trial.deployment.tenants)
