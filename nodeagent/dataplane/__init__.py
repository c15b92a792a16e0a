"""Kernel backends. Each turns forwarding entries into its kernel's objects and writes only what changed."""
