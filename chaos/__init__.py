"""sharedfate: who is hurt when a shared service-mesh proxy dies or drowns.

The import package is `chaos`. This module stays empty of imports: every reference app, loader and proxy
helper starts through it inside a container, and each millisecond of start-up counts there.
"""

__version__ = "0.1.0"
