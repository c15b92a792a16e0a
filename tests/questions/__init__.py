"""Random questions to `explain`, each held against the fate of a real packet.

`python -m tests.questions --mode nftables --count 10000` puts every state of the conformance corpus (`tests.flows`)
into a real kernel, one after the other, asks random questions of it, and sends a packet for each. An answer is right
where the packet meets what was said, and where the kernel, read back, is what was wanted.
"""
