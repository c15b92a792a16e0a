"""The kernel's side of nftables mode in memory."""
