"""The measurements behind docs/performance.md (`python -m bench` runs them and writes it)."""
