"""The nftables backend: a constant program over tables that change.

`dataplane` is the way in; `program` holds the rules, `render` what an entry becomes, `delivery` the transactions,
`kernel` the socket and `memory` the kernel without one.
"""
