"""What this agent knows of its machine and of its Node object."""
