"""What a real Kubernetes answered to the same inputs; README.md tells how to ask another cluster."""
