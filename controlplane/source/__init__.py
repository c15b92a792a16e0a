"""Where objects come from: the Kubernetes API (`kubernetes`) or a directory of manifests (`manifests`)."""
