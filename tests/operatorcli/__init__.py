"""The operator's command against a real control plane, whose agents have kernels in memory."""
