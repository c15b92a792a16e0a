"""How Deltaplane gets onto machines: the image, the manifests of a cluster, and the demo (`python -m deploy.demo`)."""
