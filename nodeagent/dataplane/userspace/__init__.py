"""Userspace mode: the agent accepts connections itself and carries them to the endpoints. Slow.

`plan` says what to listen for, `tracker` which redirects bring traffic there, `nft` and `iptables` write those,
`proxy` carries the bytes, `dataplane` joins them.
"""
