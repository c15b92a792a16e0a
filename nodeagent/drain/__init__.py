"""Tells a Pod when the last node's kernel has let go of it, so that it may end: GET /drain on its own node."""
