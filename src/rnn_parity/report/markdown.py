"""The facts as Markdown: the templates `*.md.j2`, in which everything that is not Markdown already is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from rnn_parity.report import wording
from rnn_parity.report.wording import Text


def render_markdown(template: str, facts: Mapping[str, Any]) -> str:
    """Fill a template; blank lines that its logic leaves are closed up."""
    packages = ["rnn_parity.report", *(section.package for section in facts.get("sections", ()))]
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Text) else wording.escape(value),
        autoescape=False,  # this is Markdown: `finalize` escapes
    )
    templates.globals["Text"] = Text
    named = ("code", "number", "percent", "times", "interval", "count", "listed", "seconds")
    templates.filters |= {name: getattr(wording, name) for name in named}
    templates.filters |= {"sizes": wording.case_words, "speedup": speedup}
    text = templates.get_template(template).render(facts)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"


def speedup(row: Mapping[str, Any], phase: str) -> Text:
    """A phase of a row of the case table: its conclusion with the speedup and its interval, or why there is none."""
    conclusion, value = row.get(f"conclusion_{phase}"), row.get(f"speedup_{phase}")
    if not isinstance(conclusion, str):
        return Text("–")
    if value is None or value != value:
        return Text(f"{conclusion}: {wording.escape(row[f'reason_{phase}'])}")
    low, high = (wording.fixed(row[f"speedup_{phase}_ci_{end}"]) for end in ("low", "high"))
    shared = " †" if row.get(f"exclusive_{phase}") is False else ""
    return Text(f"{conclusion} {wording.times(value)} ({low}–{high}){shared}")
