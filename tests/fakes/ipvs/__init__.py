"""The kernel's side of ipvs mode in memory."""
