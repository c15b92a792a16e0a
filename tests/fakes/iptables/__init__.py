"""The kernel's side of iptables mode in memory."""
