"""The conformance corpus: what becomes of packets, told once and held against four columns.

`corpus/` has one YAML per scenario, `tables` makes those that are a product of a table. Columns are `model` (the
forwarding entries, interpreted), `interpreter` (the rendered nftables program on the in-memory kernel), `kernel` (real
packets through namespaces) and `kubeproxy` (the same with kube-proxy in place of the product). `python -m tests.flows`
prints the table of all of them.
"""
