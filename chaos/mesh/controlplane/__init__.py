"""The mesh's control plane (`python -m chaos.mesh.controlplane`): Kubernetes objects in, Envoy configuration out.

`tables` folds watch events into a `World`; `xds` is the delta protocol without I/O; `server` serves it over gRPC to
proxies that `auth` has recognised; `secrets` issues and rotates their identities; `writers` writes back to Kubernetes.
"""
