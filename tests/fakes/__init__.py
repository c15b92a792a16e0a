"""Kernels in memory and packet traces: held against the real ones by the same cases; no part of the product."""
