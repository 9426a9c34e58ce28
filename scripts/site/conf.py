"""Sphinx's configuration of the documentation site; ``build.py`` calls it. Nothing here is read from a network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "enginegate"
extensions = ["myst_parser", "repository_files"]
#: Pages are GitHub's Markdown: MyST's own signs, such as a line that begins with %, mean nothing in them.
myst_disable_syntax = ["myst_line_comment", "myst_block_break", "myst_target", "myst_role"]
myst_heading_anchors = 6
#: A page whose parts begin at ### is shown as if they began at ##.
suppress_warnings = ["myst.header"]
smartquotes = False  # they would make a dash of --option
pygments_style, pygments_dark_style = "a11y-light", "a11y-dark"

html_theme = "furo"
html_title = "enginegate"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
