"""The kernel's own interfaces: netlink, nft, timers, namespaces. Imports nothing of the rest of the agent."""
