"""A real Kubernetes of three nodes on one Linux machine, compiled from its public modules: `make real-kubernetes`."""
