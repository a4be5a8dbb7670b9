"""What a mode costs while nothing is wrong: the proxies' CPU and memory beside the applications'."""

from __future__ import annotations

from chaos.engine.footprint import measure
from chaos.engine.scenario import scenario
from chaos.engine.trial import Trial


@scenario("footprint", reference_apps_only="what a request costs is known of the reference applications' load")
def footprint(trial: Trial) -> None:
    """The proxies of every mode live within the same total budget; what they use of it is measured."""
    trial.baseline()
    for check in measure(trial):
        trial.show(check)
