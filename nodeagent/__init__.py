"""Mirrors the cluster state, resolves this node's view of it, and programs the kernel."""
