"""The operator's command: `deltaplane VERB`, also as `kubectl deltaplane VERB`.

It asks replicas of the control plane (InspectionService), or an agent by its own socket, and prints the answers. Pure:
`views` (a message becomes tables and sentences), `tables`, `text`, `names`, `connect.target`, `connect.token`. Edges:
`ask` (gRPC), `connect` (TLS, kubeconfig, port-forward), `verbs`. typer, rich and the Kubernetes models are imported
here only; the two programs never import this.
"""
