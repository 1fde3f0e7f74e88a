"""From the tables to report.md, to report.html (one file with pictures, style and script), and to two lines."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from rnn_parity.experiment.vocabulary import AXES, axis_word, tick_label
from rnn_parity.findings.cases import swept_axes, worst_first
from rnn_parity.report.facts import collect_facts
from rnn_parity.report.first_screen import answer_lines
from rnn_parity.report.markdown import render_markdown, template_environment
from rnn_parity.tables import write_text

MOST_CASES = 2000
"""Rows of the case table of the page; a browser sorts and filters so many at once. The CSV file has all."""

_LARGEST_SVG_BYTES = 1_000_000
_SHORT_CELL, _LONG_CELL = 26, 60  # letters: up to so many stay on one line, from so many on a column is wide
_ANSWERS = {"**Not answered": "open", "**No": "no", "**Keep": "open"}
_FOLD = r"<details>\n<summary>[^\n]*</summary>|</details>"
_PICTURE_AND_CAPTION = re.compile(r'<p><img src="(figures/\w+)\.png" alt="([^"]*)" /></p>\n<p>(.*?)</p>')


def write_report(config: Mapping, environment: Mapping, results: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write `report.md`, `report.html` with the pictures inside, and the answer in two lines as `answer.txt`.

    Args:
        config, environment: the completed config, and what `rnn-parity environment` wrote.
        results: the tables of `rnn_parity.tables.COLLECTED` as data frames.
        folder: where to; its `figures/` holds `{name}.svg` and `.png` of every figure.
    """
    facts = collect_facts(config, environment, results)
    markdown = render_markdown("report.md.j2", facts)
    write_text(folder / "report.md", markdown)
    write_text(folder / "report.html", render_html(facts, markdown, folder))
    write_text(folder / "answer.txt", "\n".join([*answer_lines(facts["answers"]), ""]))


def render_html(facts: Mapping[str, Any], markdown: str, folder: Path) -> str:
    """The page: the Markdown with raw HTML off, figures to enlarge, and a table of cases to sort and filter.

    `folder` is the one that the paths of the Markdown's pictures begin at.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    for name, rule in {"table_open": _table_open, "table_close": _table_close, "fence": _fence}.items():
        parser.add_render_rule(name, rule)
    tokens = _folded(parser.parse(markdown))
    contents = _mark_headings(tokens)
    tokens = tokens[: _end_of_heading(tokens, "every-case")]  # the page has one table of all cases
    _mark_cells(tokens)
    _mark_cards(tokens)
    body = parser.renderer.render(tokens, parser.options, {})
    templates = template_environment(["rnn_parity.report"], autoescape=True)
    templates.filters |= {"sort_key": _sort_key, "sha256": _sha256}
    templates.filters["tick_label"] = lambda value, axis: tick_label(axis, value)
    return templates.get_template("report.html.j2").render(
        title=facts["config"]["report"]["title"],
        contents=contents,
        body=Markup(_PICTURE_AND_CAPTION.sub(lambda found: _figure(found[1], found[2], found[3], folder), body)),
        **_case_rows(facts["cases"], facts["phases"]),
    )


def _mark_headings(tokens: Sequence[Token]) -> list[tuple[str, str]]:
    """Give every heading of the second level an anchor; the table of contents."""
    contents = []
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            token.attrs["id"] = re.sub(r"\W+", "-", inline.content.lower()).strip("-")
            contents.append((str(token.attrs["id"]), inline.content))
    return contents


def _folded(tokens: Sequence[Token]) -> list[Token]:
    """The tokens with `<details>` as HTML. No value can give one, since a value's `<` is escaped in the Markdown."""
    found: list[Token] = []
    for token in tokens:
        fold = token.type == "inline" and re.fullmatch(_FOLD, token.content)
        if fold:
            found[-1] = Token("html_block", "", 0, content=token.content + "\n")
        elif not (token.type == "paragraph_close" and found[-1].type == "html_block"):
            found.append(token)
    return found


def _end_of_heading(tokens: Sequence[Token], anchor: str) -> int:
    at = next(at for at, token in enumerate(tokens) if token.attrs.get("id") == anchor)
    return at + 3


def _mark_cards(tokens: Sequence[Token]) -> None:
    """Colour a card by the answer in its first words."""
    for at, token in enumerate(tokens):
        if token.type == "blockquote_open":
            said = tokens[at + 2].content
            answer = next((word for start, word in _ANSWERS.items() if said.startswith(start)), "yes")
            token.attrs["class"] = f"card {answer}"


def _mark_cells(tokens: Sequence[Token]) -> None:
    for token, inline in itertools.pairwise(tokens):
        if token.type == "th_open":
            token.attrs["scope"] = "col"
        if token.type == "td_open":
            size = len(inline.content)
            token.attrs["class"] = "short" if size <= _SHORT_CELL else "long" if size >= _LONG_CELL else "cell"
            inline.children = [_breakable(child) for child in inline.children or ()]


def _breakable(token: Token) -> Token:
    """An import path that may go on in the next line behind a dot or colon; every other token as it is."""
    if token.type != "code_inline" or ":" not in token.content:
        return token
    parts = re.split(r"(?<=[.:])", token.content)
    code = Markup("<wbr>").join(Markup.escape(part) for part in parts)
    return Token("html_inline", "", 0, content=f'<code class="path">{code}</code>')


def _table_open(renderer, tokens, index, options, env) -> str:
    caption = next((token.content for token in reversed(tokens[:index]) if token.type == "inline"), "Table")
    label = Markup.escape(re.sub(r"[*`\\]", "", caption)[:80])
    return f'<div class="wide" tabindex="0" role="region" aria-label="Table: {label}">\n<table>\n'


def _table_close(renderer, tokens, index, options, env) -> str:
    return "</table>\n</div>\n"


def _fence(renderer, tokens, index, options, env) -> str:
    """Code that scrolls where it is wide, by the keyboard too."""
    return str(Markup('<pre tabindex="0"><code>{}</code></pre>\n').format(tokens[index].content))


def _figure(name: str, title: str, caption: str, folder: Path) -> str:
    """A picture, to be enlarged, with its caption; `title` and `caption` are HTML already."""
    image = f'<img src="{_data_uri(folder / name)}" alt="{title}">'
    button = f'<button type="button" class="zoom" aria-label="Enlarge: {title}">{image}</button>'
    return f"<figure>\n{button}\n<figcaption>{caption}</figcaption>\n</figure>"


def _data_uri(stem: Path) -> str:
    """A picture as text: the vector graphic, or the bitmap where that is very large."""
    vector = stem.with_suffix(".svg").read_bytes()
    if len(vector) <= _LARGEST_SVG_BYTES:
        return "data:image/svg+xml;base64," + base64.b64encode(vector).decode()
    return "data:image/png;base64," + base64.b64encode(stem.with_suffix(".png").read_bytes()).decode()


def _case_rows(cases: pd.DataFrame, phases: Sequence[str]) -> dict[str, Any]:
    """What the table of cases shows: the columns that differ, its rows, and what is the same in all of them."""
    shown = cases if len(cases) <= MOST_CASES else worst_first(cases).iloc[:MOST_CASES]
    axes = swept_axes(cases) if len(cases) else []
    return {
        "axes": axes,
        "heads": [(AXES[axis].label.rsplit(" ", 1)[-1], AXES[axis].label) for axis in axes],
        "same": [axis_word(axis, cases[axis].iloc[0]) for axis in AXES if len(cases) and axis not in axes],
        "phases": phases,
        "several": cases["implementation"].nunique() > 1,
        "rows": shown.assign(verdict=shown["verdict"].astype(object).fillna("not run")).to_dict("records"),
        "left_out": len(cases) - len(shown),
    }


def _sort_key(value: float | None) -> str:
    return "" if value is None or value != value else repr(float(value)).replace("inf", "∞")


def _sha256(script: str) -> str:
    """The digest by which the page's policy knows its script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
