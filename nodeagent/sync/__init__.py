"""From the mirror to the kernel: what a change means for this node is resolved, committed, repaired and retried."""
