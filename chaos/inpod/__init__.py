"""Programs that run in pods, each as `python -m chaos.inpod.NAME`, with the standard library alone.

An image of somebody else's has this package on its path and nothing else (`chaos/faults/helper_pod.py`).
"""
