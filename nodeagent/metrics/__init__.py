"""What this agent counts and measures, in Prometheus' words."""
