"""What the agent answers over HTTP: its health, its metrics, and the health check node ports of Services."""
