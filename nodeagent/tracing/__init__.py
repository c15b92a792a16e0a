"""One real packet followed through this node's kernel by the kernel's own tracing (`nftrace`). As root on the node.

`python -m nodeagent.tracing` prints what it saw as JSON; `deltaplane trace` starts it and shows that beside `explain`.
"""
