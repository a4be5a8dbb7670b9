"""Nothing is broken: each feature that the mode promises is shown to work, in a mesh that nobody else uses
meanwhile.
"""

from __future__ import annotations

from chaos.engine.features.catalogue import check_features
from chaos.engine.features.context import check_context
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial


@scenario("features", reference_apps_only="it calls and reads the reference apps")
def every_feature(trial: Trial) -> None:
    """Mutual TLS, policy, balancing, retries, timeouts, metrics and identities work as the mode says; of an installed
    mesh what can be asked of any: balancing, encryption on the wire, and what its proxies say of themselves.
    """
    try:
        with check_context(trial.mesh) as where:
            for check in check_features(where):
                trial.show(check)
    finally:
        trial.restore_load(*trial.deployment.tenants)
