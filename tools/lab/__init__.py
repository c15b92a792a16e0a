"""A laboratory on one machine: network namespaces as nodes and pods, real packets, real Kubernetes programs.

Used by the kernel and end-to-end tests, the demo and the benchmark. `fabric.build` makes the network, `echo` and
`client` speak over it, `process` runs programs inside it; `deltaplane`, `apiserver`, `kubeproxy` and `jaeger` are such
programs. Needs root and Linux. Whatever it makes carries its prefix and its owner's pid in the name, and goes with it.
"""
