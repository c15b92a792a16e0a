"""What operators ask a replica (`service`): nodes, objects, what nodes make of them, and waiting for kernels."""
