"""Tracked flows follow their Services: what a change makes stale is deleted from the kernel's connection tracking.

A tracked flow goes where its first packet went, whatever the rules say since; a UDP client that keeps its source port
would therefore talk to a dead endpoint for as long as it sends. `intent` (pure) says what a change makes stale, `query`
(pure) how to look for it, `wire` (pure) packs and reads the messages; `table` is the kernel and `memory` its twin;
`cleaner` does the work after a commit. Connections of TCP and SCTP are never touched (J5): they end by
themselves. Only attempts to connect go that began before their Service and wait for an answer: `attempts` (pure).
"""
