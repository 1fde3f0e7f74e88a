"""From the tables to prose: report.md, the self-contained report.html, and the tables behind both.

`facts` takes from the tables what is said, `opening` puts the answer into words, `cases` has a row per case, `markdown`
and `page` fill the templates, `tables` writes the files, `brief` the few lines for a terminal or a pull request.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rnn_parity.report.facts import collect_facts
from rnn_parity.report.markdown import render_markdown
from rnn_parity.report.page import render_html
from rnn_parity.report.tables import write_tables
from rnn_parity.tables import write_text

__all__ = ["write_report", "write_tables"]


def write_report(
    config: Mapping,
    environment: Mapping,
    results: Mapping[str, pd.DataFrame],
    figures_folder: Path,
    markdown_path: Path,
    html_path: Path,
) -> None:
    """Write the report as Markdown beside `figures/`, and as one HTML file with the pictures inside.

    Args:
        config, environment: the completed config, and what `rnn-parity environment` wrote.
        results: the tables of `rnn_parity.tables.COLLECTED` as data frames.
        figures_folder: where `{name}.svg` and `.png` of every figure are.
    """
    facts = collect_facts(config, environment, results)
    markdown = render_markdown("report.md.j2", facts)
    write_text(markdown_path, markdown)
    write_text(html_path, render_html(facts, markdown, figures_folder))
