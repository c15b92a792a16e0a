"""What both programs share: the model, its wire form, Service resolution. Imports neither of the two programs."""

__version__ = "0.1.0"
