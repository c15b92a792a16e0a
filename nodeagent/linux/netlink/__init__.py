"""Netlink: messages and sockets."""
