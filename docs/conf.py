"""Sphinx configuration; `make docs` builds with warnings as errors and executes every page's code."""

import graphvae

project = "graphvae"
author = "The graphvae authors"
copyright = "2026, the graphvae authors"  # noqa: A001
release = graphvae.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = "graphvae"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_rtype = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 2
nb_execution_mode = "force"
nb_execution_raise_on_error = True
suppress_warnings = ["ref.python"]
