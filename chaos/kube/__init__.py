"""Kubernetes, as every part needs it: the client and its guard, objects, quantities, access, placement."""
