"""The iptables backend: the chains, names, order and comments that kube-proxy makes, each changed on its own.

Pure: `naming`, `rules`, `render`, `base` (what is wanted), `tracker` (what differs), `script` (one restore input).
`delivery` gives restores to the programs (`nodeagent.linux.iptables`), `dataplane` wires all.
"""
