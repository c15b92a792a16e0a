"""Watches the Kubernetes API (or manifests), keeps the cluster state, and streams it to node agents."""
