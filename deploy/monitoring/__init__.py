"""What watches Deltaplane: alert rules and dashboards. `python -m deploy.monitoring` writes what is derived of them."""
