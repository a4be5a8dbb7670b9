"""The mesh's control plane (`python -m chaos.mesh.controlplane`): Kubernetes objects in, Envoy configuration out.

`cache` folds watch events into a `MeshSnapshot`; `xds` is the delta protocol without I/O; `server` serves it over gRPC
to proxies that `auth` has recognised; `secrets` issues and rotates their identities; `reconcilers` writes back to
Kubernetes.
"""
