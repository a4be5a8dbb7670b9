"""Envoy's configuration for every proxy of every mode: `build.build(proxy, world)` and `bootstrap(...)`, pure
functions.

The control plane calls `build` on each change of the world (its module imports Envoy's protobufs); whoever starts a
proxy writes down `bootstrap` for it.
"""

from __future__ import annotations

from chaos.mesh.envoy.start import bootstrap

__all__ = ["bootstrap"]
