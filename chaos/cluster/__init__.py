"""Clusters: the embedded one, kind, and a context of the user's, all behind the Kubernetes API."""
