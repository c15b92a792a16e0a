"""A User-mode Linux guest for what the host's kernel lacks: IPVS, dummy links, SCTP. Tests and benchmarks run in it."""
