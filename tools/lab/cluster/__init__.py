"""A real Kubernetes of two nodes on one machine: etcd, the API server, its controllers, kubelets, containerd, CoreDNS.

Used by tests/cluster and `python -m tools.cluster`. `cluster.running` brings it up on the network of
`tools.lab.fabric` and takes it down; `leftovers` removes what a run has left that was killed; `images` makes the images
that the nodes need, without a registry. Each run has a name of its own, after its process, that everything it makes
carries. Needs root, cgroup v1, and the programs that tools/programs.txt has under "cluster".
"""
