"""The iptables programs: which flavour, running them, and what `iptables-save` prints."""
