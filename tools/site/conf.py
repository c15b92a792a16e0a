"""Sphinx's settings of the site."""

import deltaplane

project = "Deltaplane"
project_copyright = "The Deltaplane authors, Apache-2.0"
version = release = deltaplane.__version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["files"]
myst_heading_anchors = 6  # as GitHub has them
suppress_warnings = ["misc.highlighting_failure"]  # diagrams, and output of programs, are no language that it knows
html_theme = "furo"
html_title = "Deltaplane"
html_show_sourcelink = False
html_copy_source = False
