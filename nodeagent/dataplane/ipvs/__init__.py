"""The ipvs mode: virtual servers, addresses on a dummy link, sets and a constant number of rules.

`render` and `desired` are pure and say what is wanted; `state` knows what the kernel holds; `writer` sends what
differs; `kernel` is the edge.
"""
