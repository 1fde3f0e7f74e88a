"""The documentation as a site: `make docs`. The pages stand where they are read in the repository too."""

from pathlib import Path

from rnn_parity import __version__

project = "rnn-parity"
author = "The rnn-parity maintainers"
copyright = author
release = __version__

# From the top of the repository, so that a link to a kept report or figure is the same here and there.
include_patterns = ["docs/*.md", "docs/site/*.md", "reports/reference/*/report.md"]
exclude_patterns = ["docs/site/contents.md"]
root_doc = "docs/README"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["."]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.mermaid"]
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = "rnn-parity"
html_copy_source = False


def setup(app):
    """Give the first page the contents of the side bar, which it does not show where a forge renders it."""
    app.connect("source-read", add_contents)


def add_contents(app, document, source):
    """Add them to that page's text."""
    if document == root_doc:
        source[0] += (Path(app.confdir) / "contents.md").read_text(encoding="utf-8")
