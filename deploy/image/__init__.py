"""How the image is built, and what it costs."""
