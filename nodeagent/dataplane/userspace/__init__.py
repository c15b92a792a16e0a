"""Userspace mode: the agent accepts connections itself and carries them to the endpoints. Slow, and works anywhere.

`plan` says what to listen for, `tracker` which redirects bring traffic there, `nft`, `iptables` and `direct` write
those, `proxy` carries the bytes, `dataplane` joins them.
"""
