"""The API server of the tests beside."""

from tests.embedded.api.conftest import cluster, namespace, world

__all__ = ["cluster", "namespace", "world"]
