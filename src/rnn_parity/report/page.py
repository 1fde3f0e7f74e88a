"""The Markdown as one HTML file: pictures, style and script inside, nothing asked of any network."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from rnn_parity.experiment.vocabulary import AXES, axis_word, tick_label
from rnn_parity.findings.cases import swept_axes, worst_first
from rnn_parity.report import wording

MOST_CASES = 2000
"""Rows of the case table of the page; a browser sorts and filters so many at once. The CSV file has all."""

_LARGEST_SVG_BYTES = 1_000_000
_SHORT_CELL, _LONG_CELL = 26, 60  # letters: up to so many stay on one line, from so many on a column is wide
_CASES_SECTION = "every-case"
_FIGURE_MARK = re.compile(r"<!-- (figure (?P<name>\w+)|end of figure) -->")


def render_html(facts: Mapping[str, Any], markdown: str, figures_folder: Path) -> str:
    """The page: the Markdown with raw HTML off, figures to enlarge, and a table of cases to sort and filter."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.validateLink = lambda url: True  # type: ignore[method-assign]  # our own data: URIs; a value of a table is escaped and makes no link
    rules = {"table_open": _table_open, "table_close": _table_close, "fence": _fence}
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    tokens = parser.parse(markdown)
    contents = _mark_headings(tokens)
    _mark_cells(tokens)
    tokens = _figures(tokens, figures_folder)
    at = _end_of_section(tokens, _CASES_SECTION)
    before, after = (Markup(parser.renderer.render(part, parser.options, {})) for part in (tokens[:at], tokens[at:]))
    script, style = (
        files("rnn_parity.report").joinpath(f"templates/{name}").read_text("utf-8") for name in ("page.js", "page.css")
    )
    page = Environment(
        loader=PackageLoader("rnn_parity.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    named = {"number": wording.number, "times": wording.times, "fixed": wording.fixed}
    page.filters |= named | {"sort_key": _sort_key, "tick_label": lambda value, axis: tick_label(axis, value)}
    return page.get_template("report.html.j2").render(
        title=facts["config"]["report"]["title"],
        contents=contents,
        before=before,
        after=after,
        script=Markup(script),
        style=Markup(style),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
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


def _mark_cells(tokens: Sequence[Token]) -> None:
    for token, inline in itertools.pairwise(tokens):
        if token.type == "th_open":
            token.attrs["scope"] = "col"
        if token.type == "td_open":
            size = len(inline.content)
            token.attrs["class"] = "short" if size <= _SHORT_CELL else "long" if size >= _LONG_CELL else "cell"


def _table_open(renderer, tokens, index, options, env) -> str:
    caption = next((token.content for token in reversed(tokens[:index]) if token.type == "inline"), "Table")
    label = Markup.escape(re.sub(r"[*`\\]", "", caption)[:80])
    return f'<div class="wide" tabindex="0" role="region" aria-label="Table: {label}">\n<table>\n'


def _table_close(renderer, tokens, index, options, env) -> str:
    return "</table>\n</div>\n"


def _fence(renderer, tokens, index, options, env) -> str:
    """Code that scrolls where it is wide, by the keyboard too."""
    return str(Markup('<pre tabindex="0"><code>{}</code></pre>\n').format(tokens[index].content))


def _figures(tokens: Sequence[Token], folder: Path) -> list[Token]:
    """Make an element of every figure: the picture and its caption stand between two comments that mark them."""
    marks = [
        (at, mark["name"])
        for at, token in enumerate(tokens)
        if token.type == "inline" and (mark := _FIGURE_MARK.fullmatch(token.content))
    ]
    made: list[Token] = []
    done = 0
    for (start, name), (end, _) in zip(marks[::2], marks[1::2], strict=True):
        made += tokens[done : start - 1]  # a comment is a paragraph: its opening, its text, its close
        picture, caption = (token for token in tokens[start + 2 : end - 1] if token.type == "inline")
        made += _figure(picture, caption, folder / name)
        done = end + 2
    return [*made, *tokens[done:]]


def _figure(picture: Token, caption: Token, stem: Path) -> list[Token]:
    [image] = picture.children or []
    image.attrs["src"] = _data_uri(stem)
    button = {"type": "button", "class": "zoom", "aria-label": f"Enlarge: {image.content}"}
    return [
        Token("figure_open", "figure", 1, block=True),
        Token("button_open", "button", 1, attrs=button),
        picture,
        Token("button_close", "button", -1),
        Token("figcaption_open", "figcaption", 1, block=True),
        caption,
        Token("figcaption_close", "figcaption", -1, block=True),
        Token("figure_close", "figure", -1, block=True),
    ]


def _end_of_section(tokens: Sequence[Token], anchor: str) -> int:
    """Where the section under a heading ends: the place of the next heading of its level."""
    headings = [at for at, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    [start] = [at for at in headings if tokens[at].attrs.get("id") == anchor]
    return next((at for at in headings if at > start), len(tokens))


def _case_rows(cases: pd.DataFrame, phases: Sequence[str]) -> dict[str, Any]:
    """What the table of cases shows: the columns that differ, its rows, and what is the same in all of them."""
    shown = cases if len(cases) <= MOST_CASES else worst_first(cases).iloc[:MOST_CASES]
    axes = swept_axes(cases) if len(cases) else []
    same = [axis_word(axis, cases[axis].iloc[0]) for axis in AXES if len(cases) and axis not in axes]
    rows = shown.assign(verdict=shown["verdict"].astype(object).fillna("not run")).to_dict("records")
    heads = [(AXES[axis].label.rsplit(" ", 1)[-1], AXES[axis].label) for axis in axes]
    left_out = len(cases) - len(shown)
    several = cases["implementation"].nunique() > 1
    names = {"axes": axes, "heads": heads, "same": same, "phases": phases, "several": several}
    return names | {"rows": rows, "left_out": left_out}


def _sort_key(value: float | None) -> str:
    return "" if value is None or value != value else repr(float(value))


def _data_uri(stem: Path) -> str:
    """A picture as text: the vector graphic, or the bitmap where that is very large."""
    vector = stem.with_suffix(".svg").read_bytes()
    if len(vector) <= _LARGEST_SVG_BYTES:
        return "data:image/svg+xml;base64," + base64.b64encode(vector).decode()
    return "data:image/png;base64," + base64.b64encode(stem.with_suffix(".png").read_bytes()).decode()
