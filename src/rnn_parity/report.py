"""From the tables to prose: report.md, the self-contained report.html, and the CSV files behind both."""

from __future__ import annotations

import base64
import itertools
import math
import re
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from rnn_parity import criterion, summary
from rnn_parity.decoder.report import section as decoder_section
from rnn_parity.efficiency import efficiency_table
from rnn_parity.figures import FIGURES, numbers
from rnn_parity.self_test import rates
from rnn_parity.tables import atomic_path, write_text

PHASES = ("inference", "forward", "backward", "step")
_LARGEST_SVG_BYTES = 1_000_000
_SHORT_CELL, _LONG_CELL = 26, 60  # letters: up to so many stay on one line, from so many on a column is wide


class Text(str):
    """A string that is Markdown already; every other value that a template prints is escaped."""


def write_tables(results: Mapping[str, pd.DataFrame], environment: Mapping, folder: Path) -> None:
    """Write every table of the report as `folder/{name}.csv`: the measured ones, the verdicts, those of the figures."""
    equivalence, timing = results["equivalence"], results["timing"]
    tables = {
        **results,
        "detection": rates.detection(results["self_test"]),
        "false_alarms": rates.false_alarms(results["self_test"]),
        "verdicts": summary.verdict_table(equivalence),
        "speedup": summary.speedup_table(timing),
        "roofline": efficiency_table(timing, environment.get("peaks") or []),
        "overview": numbers.overview(equivalence, timing),
        "error_vs_length": numbers.error_vs_length(equivalence),
        "error_ratio": numbers.error_ratio(equivalence),
        "dropout": numbers.dropout(equivalence),
    }
    for name, table in tables.items():
        if len(table.columns):  # rates of a self-test that was not made have none
            with atomic_path(folder / f"{name}.csv") as path:
                table.to_csv(path, index=False)


def write_report(
    config: Mapping,
    environment: Mapping,
    results: Mapping[str, pd.DataFrame],
    figures_folder: Path,
    markdown_path: Path,
    html_path: Path,
) -> None:
    """Write the report as Markdown beside `figures/`, and as one HTML file with the pictures inside."""
    facts = collect_facts(config, environment, results)
    markdown = render_markdown(facts)
    write_text(markdown_path, markdown)
    write_text(html_path, render_html(str(config["report"]["title"]), markdown, figures_folder))


def collect_facts(config: Mapping, environment: Mapping, results: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Everything the template states, taken from the tables."""
    equivalence, timing = results["equivalence"], results["timing"]
    candidates = list(config["candidates"])
    in_decoder = [name for name, sweep in config["sweeps"].items() if sweep.get("workload") == "decoder"]
    alone = timing[~timing["sweep"].isin(in_decoder)]  # a decoder's own speedups have their own paragraph
    speedups = _speedup_rows(timing)
    detection, alarms = rates.detection(results["self_test"]), rates.false_alarms(results["self_test"])
    abilities = summary.capability_rows(results["capabilities"])
    return {
        "config": config,
        "environment": environment,
        "baseline": config["baseline"],
        "answers": [summary.answer(equivalence, name) for name in candidates],
        "quoted": {name: _records(summary.quoted_speedups(alone, name)) for name in candidates},
        "conclusions": {name: _records(summary.conclusions(alone, name)) for name in candidates},
        "verdicts": _verdict_rows(equivalence),
        "not_judged": _records(summary.not_judged(equivalence)),
        "tolerances": summary.tolerance_checks(equivalence),
        "seed_rows": _records(summary.seed_table(equivalence)),
        "protocol": summary.protocol(equivalence),
        "speedups": speedups,
        "slower": {name: {phase: _slower(speedups, name, phase) for phase in PHASES} for name in candidates},
        "phases": [phase for phase in PHASES if phase in set(timing["phase"])],
        "regimes": [name for name in criterion.EXPECTED_TO_HOLD if name in set(equivalence["regime"])],
        "false_alarms": _records(alarms),
        "detection": _detection_rows(detection),
        "detection_totals": _totals(detection),
        "broken_promises": rates.broken_promises(detection, alarms),
        "power": _records(results["power"]),
        "blind_spots": _blind_spots(results["coverage"], equivalence),
        "shown_by_none": rates.shown_by_none(results["coverage"]),
        "capabilities": abilities,
        "lost": {name: summary.lost_capabilities(abilities, config["baseline"], name) for name in candidates},
        "figures": FIGURES,
        "sizes": {name: numbers.sample_size(name, equivalence, timing) for name in FIGURES},
        "seeds": sorted({int(seed) for seed in equivalence["seed"]}),
        "criterion": criterion,
        **decoder_section(config, results),
    }


def render_markdown(facts: Mapping[str, Any]) -> str:
    """Fill the template; blank lines that its logic leaves are closed up."""
    templates = Environment(
        loader=PackageLoader("rnn_parity"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Text) else escape(value),
        autoescape=False,  # this is Markdown: `finalize` escapes
    )
    templates.globals["Text"] = Text
    templates.filters |= {
        "code": code,
        "number": number,
        "percent": percent,
        "interval": interval,
        "times": lambda value: Text(f"{_fixed(value)}×"),
        "sizes": case_words,
        "count": lambda n, word: Text(f"{n:,} {word}{'' if n == 1 else 's'}"),
    }
    text = templates.get_template("report.md.j2").render(facts)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"


def render_html(title: str, markdown: str, figures_folder: Path) -> str:
    """The Markdown as one HTML page: raw HTML off, pictures inline, tables that scroll by themselves."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    contents = []
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            token.attrs["id"] = re.sub(r"\W+", "-", inline.content.lower()).strip("-")
            contents.append((token.attrs["id"], inline.content))
        if token.type == "th_open":
            token.attrs["scope"] = "col"
        if token.type == "td_open":
            size = len(inline.content)
            token.attrs["class"] = "short" if size <= _SHORT_CELL else "long" if size >= _LONG_CELL else "cell"
        for child in inline.children or []:
            if child.type == "image":
                child.attrs["src"] = _data_uri(figures_folder / Path(str(child.attrs["src"])).stem)

    def table_open(renderer, tokens, index, options, env) -> str:
        return '<div class="wide" tabindex="0" role="region" aria-label="Table">\n<table>\n'

    def table_close(renderer, tokens, index, options, env) -> str:
        return "</table>\n</div>\n"

    def image(renderer, tokens, index, options, env) -> str:
        return f'<span class="wide picture" tabindex="0">{renderer.image(tokens, index, options, env)}</span>'

    parser.validateLink = lambda url: True  # our own data: URIs; a value of a table is escaped and makes no link
    for name, rule in {"table_open": table_open, "table_close": table_close, "image": image}.items():
        parser.add_render_rule(name, rule)
    body = Markup(parser.renderer.render(tokens, parser.options, {}))
    page = Environment(loader=PackageLoader("rnn_parity"), autoescape=True, undefined=StrictUndefined)
    return page.get_template("report.html.j2").render(title=title, contents=contents, body=body)


def escape(value: Any) -> str:
    """A value as Markdown text: on one line, and with nothing in it that Markdown or HTML would act on."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return re.sub(r"([\\`*_{}\[\]<>#|~&$!])", r"\\\1", re.sub(r"\s+", " ", str(value)))


def code(value: Any) -> Text:
    """A name in code type; as escaped text where it holds what code type cannot."""
    text = str(value)
    return Text(escape(text) if re.search(r"[`|<>\n]", text) or not text.strip() else f"`{text}`")


def number(value: Real | None, digits: int = 2) -> Text:
    """A number to some significant digits."""
    if value is None or math.isnan(value):
        return Text("–")
    return Text("∞" if math.isinf(value) else f"{value:.{digits}g}")


def percent(share: Real | None) -> Text:
    """A share as a percentage."""
    return Text("–" if share is None or math.isnan(share) else f"{share:.0%}".replace("%", " %"))


def interval(row: Mapping[str, Any], of: str = "speedup") -> Text:
    """A confidence interval of a row of the timing table."""
    return Text(f"{_fixed(row[f'{of}_ci_low'])}–{_fixed(row[f'{of}_ci_high'])}")


def case_words(row: Mapping[str, Any]) -> Text:
    """The sizes of a case in the letters of the axes."""
    letters = {"T": "sequence_length", "B": "batch_size", "I": "input_size", "H": "hidden_size", "L": "num_layers"}
    words = [f"{letter} {row[axis]}" for letter, axis in letters.items()]
    words += [f"dropout {row['dropout']:g}", str(row["dtype"]), *(["TF32"] if row["tf32"] else []), str(row["device"])]
    return Text(", ".join([*words, f"{row['threads']} CPU thread{'' if row['threads'] == 1 else 's'}"]))


def _fixed(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.3g}"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict("records")


def _short_names(table: pd.DataFrame) -> dict[str, str]:
    """Id of a case to the values that its sweep varies, in words."""
    names = {}
    for _, cases in numbers.case_frame(table).groupby("sweep", sort=False):
        swept = numbers.swept_axes(cases)
        for case in _records(cases):
            names[case["case_id"]] = ", ".join(numbers.axis_word(axis, case[axis]) for axis in swept)
    return names


def _verdict_rows(equivalence: pd.DataFrame) -> list[dict[str, Any]]:
    """The verdict table with its deciding cases in words."""
    names = _short_names(equivalence)
    return [row | {"worst_case": names[row["worst_case_id"]]} for row in _records(summary.verdict_table(equivalence))]


def _speedup_rows(timing: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per case × candidate, in words, with the rows of the timing table by phase."""
    table, names, rows = summary.speedup_table(timing), _short_names(timing), []
    for (case_id, candidate), group in table.groupby(["case_id", "implementation"], sort=False):
        by_phase = {row["phase"]: row for row in _records(group)}
        sweep = group["sweep"].iloc[0]
        rows.append({"sweep": sweep, "case": names[case_id], "candidate": candidate, "by_phase": by_phase})
    return rows


def _detection_rows(detection: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per fault, with the rows of the detection table by dtype."""
    rows: dict[str, dict[str, Any]] = {}
    for row in _records(detection):
        of_fault = rows.setdefault(row["fault"], {"kind": row["kind"], "fault": row["fault"], "by_dtype": {}})
        of_fault["by_dtype"][row["dtype"]] = row
    return list(rows.values())


def _totals(detection: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By dtype, what became of all faults together."""
    return {row["dtype"]: row for row in _records(rates.totals(detection))} if len(detection) else {}


def _blind_spots(coverage: pd.DataFrame, equivalence: pd.DataFrame) -> list[dict[str, Any]]:
    """The blind spots with their cases in words, sweep by sweep."""
    names, rows = _short_names(equivalence), []
    for row in rates.blind_spots(coverage):
        by_sweep: dict[str, list[str]] = {}
        for case_id in row["case_ids"]:
            by_sweep.setdefault(case_id.split("/")[0], []).append(names[case_id])
        rows.append(row | {"by_sweep": by_sweep})
    return rows


def _slower(speedups: list[dict[str, Any]], candidate: str, phase: str) -> list[str]:
    """The cases in which a candidate is slower, in words."""
    return [
        f"{row['sweep']} {row['case']}".strip()
        for row in speedups
        if row["candidate"] == candidate and row["by_phase"].get(phase, {}).get("conclusion") == "slower"
    ]


def _data_uri(stem: Path) -> str:
    """A picture as text: the vector graphic, or the bitmap where that is very large."""
    vector = stem.with_suffix(".svg").read_bytes()
    if len(vector) <= _LARGEST_SVG_BYTES:
        return "data:image/svg+xml;base64," + base64.b64encode(vector).decode()
    return "data:image/png;base64," + base64.b64encode(stem.with_suffix(".png").read_bytes()).decode()
