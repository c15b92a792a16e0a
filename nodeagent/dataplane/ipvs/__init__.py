"""The ipvs mode: virtual servers, addresses on a dummy link, sets and a constant number of rules.

`render` and `tracker` are pure and say what is wanted; `ledger` knows what the kernel holds; `writer` sends what
differs; `kernel` is the edge and `memory` its twin.
"""
