"""Random changes with random faults: what `wait` says, held against packets on every node.

`python -m tests.waits --changes 1000` runs three replicas and four agents as processes, each agent on a real kernel. An
answer is right where it says "everywhere" only when a packet on every node agrees, and otherwise names exactly the
nodes under the fault, each with its reason, in time.
"""
