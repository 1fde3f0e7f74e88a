"""From the tables to prose: report.md, and the self-contained report.html."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rnn_parity.report.facts import collect_facts
from rnn_parity.report.markdown import render_markdown
from rnn_parity.report.page import render_html
from rnn_parity.tables import write_text


def write_report(config: Mapping, environment: Mapping, results: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write `report.md`, and `report.html` with the pictures inside.

    Args:
        config, environment: the completed config, and what `rnn-parity environment` wrote.
        results: the tables of `rnn_parity.tables.COLLECTED` as data frames.
        folder: where to; its `figures/` holds `{name}.svg` and `.png` of every figure.
    """
    facts = collect_facts(config, environment, results)
    markdown = render_markdown("report.md.j2", facts)
    write_text(folder / "report.md", markdown)
    write_text(folder / "report.html", render_html(facts, markdown, folder))
