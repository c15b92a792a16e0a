"""What the agent says of itself on its own node, through a unix socket: wanted, applied, and read back."""
