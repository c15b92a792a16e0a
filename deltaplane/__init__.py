"""What both programs share: the model, its wire form, and Service resolution. Imports neither controlplane nor nodeagent."""

__version__ = "0.1.0"
