"""The iptables backend: the chains, names, order and comments that kube-proxy makes, each changed on its own.

Pure: `naming`, `rules`, `render`, `base` (what is wanted), `tracker` (what differs), `script` (one restore input).
Edges: `tools` (the iptables programs), `memory` (the same without a kernel). `dataplane` wires them.
"""
