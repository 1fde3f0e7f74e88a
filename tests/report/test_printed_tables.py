"""The tables for a paper and for a pull request."""

import shutil
import subprocess

import pandas as pd
import pytest
import yaml

from conftest import PROJECT
from rnn_parity.experiment.grid import make_grid
from rnn_parity.report.tables import MOST_PRINTED_ROWS, latex, markdown, write_tables
from synthetic import equivalence_rows, results_of, timing_rows

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,siunitx,longtable}
\begin{document}
\input{verdicts.tex}

\input{speedup.tex}
\end{document}
"""


@pytest.fixture
def folder(tmp_path):
    """The tables of a run whose names hold what LaTeX and Markdown would act on."""
    sweeps = SMOKE["sweeps"] | {"under_score": {"hidden_size": list(range(4, 24))}}
    grid = make_grid(SMOKE | {"sweeps": sweeps, "candidates": ["stacking_gru", "my_layer:Fast"]})
    timing = pd.DataFrame(timing_rows(grid))
    ours = timing.index[timing["implementation"] == "stacking_gru"]
    timing.loc[ours[3], ["speedup", "speedup_ci_low", "speedup_ci_high", "median_s"]] = float("nan")
    equivalence = pd.DataFrame(equivalence_rows(grid, wrong="my_layer:Fast"))
    equivalence.loc[equivalence["sweep"] == "width", "ratio"] = float("inf")
    write_tables(results_of(equivalence, timing), {}, tmp_path)
    return tmp_path


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_a_document_with_both_tables_compiles(folder):
    (folder / "paper.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if "siunitx.sty' not found" in done.stdout:
        pytest.skip("pdflatex is here without siunitx")  # a package of its own, and no dependency of this project
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "paper.pdf").stat().st_size > 10_000


def test_latex_is_escaped_and_ready_for_siunitx(folder):
    text = (folder / "speedup.tex").read_text()
    assert r"my\_layer:Fast" in text
    assert r"under\_score" in text
    assert r"\begin{longtable}{llllSSSSl}" in text  # words to the left, numbers at the point
    assert r"\toprule" in text
    assert "{--}" in text
    assert "nan" not in text
    assert "longtable" in text.splitlines()[0]


def test_a_printed_speedup_has_its_own_interval(folder):
    header, _, *rows = (folder / "speedup.md").read_text().splitlines()
    columns = [name.strip() for name in header.split("|")]
    assert columns.index("speedup") + 1 == columns.index("low") == columns.index("high") - 1
    cells = [[cell.strip() for cell in row.split("|")] for row in rows if "stacking" in row]
    found = {tuple(row[columns.index("speedup") : columns.index("high") + 1]) for row in cells}
    assert found == {("1.5", "1.46", "1.54"), ("–", "–", "–")}


def test_markdown_is_escaped_and_long_tables_are_cut():
    table = pd.DataFrame({"name": ["a|b_c"] * (MOST_PRINTED_ROWS + 5), "value": 1.0})
    text = markdown(table)
    assert r"a\|b\_c" in text
    assert f"The first {MOST_PRINTED_ROWS} of {MOST_PRINTED_ROWS + 5} rows." in text
    assert latex(table).count("a|b") == MOST_PRINTED_ROWS
