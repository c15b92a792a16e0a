"""Fault cases on real processes: see docs/faults.md."""
