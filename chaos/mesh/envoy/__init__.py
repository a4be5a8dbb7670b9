"""Envoy's configuration for every proxy of every mode: `build.build(proxy, snapshot)` and `bootstrap(...)`, pure
functions.

The control plane calls `build` on each change of the snapshot (its module imports Envoy's protobufs); whoever starts a
proxy writes down `bootstrap` for it.
"""

from __future__ import annotations

from chaos.mesh.envoy.start import bootstrap

__all__ = ["bootstrap"]
