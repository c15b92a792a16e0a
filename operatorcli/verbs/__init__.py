"""The verbs: each asks, makes its view, shows it, and says how it ended. Their docstrings are the help."""
