"""sharedfate: who is hurt when a shared service-mesh proxy dies or drowns.

The import package is `chaos`. This module stays empty of imports: every reference app, loader and proxy
helper starts through it inside a container, and each millisecond of start-up counts there.
"""

__version__ = "0.1.0"


def discover(discover_system: bool = True) -> dict:  # type: ignore[type-arg]  # as Chaos Toolkit writes it
    """The actions, probes, tolerances and controls of the Chaos Toolkit extension: what `chaos discover` calls.

    The system itself is not discovered: there is none before an experiment deploys it.
    """
    from chaos.toolkit.discovery import discover as found

    del discover_system
    return found()
