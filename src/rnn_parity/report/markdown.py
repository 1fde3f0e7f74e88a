"""The facts as Markdown: the templates `*.md.j2`, and the filters that make words of values.

Everything that a template prints and that is not Markdown already is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_LARGE_POWER = 5  # of ten: a number that is larger is written with it
_ROUNDS_UP = 999.5
"""To three digits this is 1000, which is 1 of the next unit."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Text(str):
    """A string that is Markdown already; every other value that a template prints is escaped."""


def template_environment(packages: Sequence[str], **options: Any) -> Environment:
    """The templates of some packages, with the filters of this module; `options` as of `jinja2.Environment`."""
    loader = ChoiceLoader([PackageLoader(package) for package in packages])
    templates = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, **options)
    templates.globals["Text"] = Text
    templates.filters |= {word.__name__: word for word in _FILTERS}
    return templates


def render_markdown(template: str, facts: Mapping[str, Any]) -> str:
    """Fill a template; blank lines that its logic leaves are closed up."""
    packages = ["rnn_parity.report", *(section.package for section in facts.get("sections", ()))]
    # This is Markdown: `finalize` escapes.
    templates = template_environment(
        packages, finalize=lambda value: value if isinstance(value, Text) else escape(value), autoescape=False
    )
    text = templates.get_template(template).render(facts)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"


def escape(value: Any) -> str:
    """A value as Markdown text: on one line, and with nothing in it that Markdown or HTML would act on."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return re.sub(r"([\\`*_{}\[\]<>#|~&$!])", r"\\\1", re.sub(r"\s+", " ", str(value)))


def code(value: Any) -> Text:
    """A name in code type; as escaped text where it holds what code type cannot."""
    text = str(value)
    return Text(escape(text) if re.search(r"[`|<>\n]", text) or not text.strip() else f"`{text}`")


def html(value: Any) -> Text:
    """A value as HTML text on one line, for the few elements that Markdown has no sign for."""
    return Text(Markup.escape(re.sub(r"\s+", " ", str(value))))


def number(value: float | None, digits: int = 2) -> Text:
    """A number to some significant digits."""
    if value is None or math.isnan(value):
        return Text("–")
    if math.isinf(value):
        return Text("∞")
    rounded = f"{value:.{digits}g}"
    head, _, power = rounded.partition("e")
    if power and 0 < int(power) < _LARGE_POWER:
        return Text(f"{float(rounded):,.0f}")
    return Text(f"{head} × 10{str(int(power)).translate(_RAISED)}" if power else rounded)


def percent(share: float | None) -> Text:
    """A share as a percentage."""
    return Text("–" if share is None or math.isnan(share) else f"{share:.0%}".replace("%", " %"))


def fixed(value: float) -> str:
    """A ratio with two decimals, or three digits where it is large, or as an integer from a thousand on."""
    return f"{value:.2f}" if value < 10 else f"{value:.3g}" if value < _ROUNDS_UP else f"{value:,.0f}"


def times(ratio: float | None) -> Text:
    """A ratio with its sign: 1.20×."""
    return Text("–" if ratio is None or math.isnan(ratio) else f"{fixed(ratio)}×")


def interval(row: Mapping[str, Any], of: str = "speedup") -> Text:
    """A confidence interval of a row of the timing table."""
    return Text(f"{fixed(row[f'{of}_ci_low'])}–{fixed(row[f'{of}_ci_high'])}")


def speedup(row: Mapping[str, Any], phase: str) -> Text:
    """A phase of a row of the case table: its conclusion with the speedup and its interval, or why there is none."""
    conclusion, value = row.get(f"conclusion_{phase}"), row.get(f"speedup_{phase}")
    if not isinstance(conclusion, str):
        return Text("–")
    if value is None or value != value:
        return Text(f"{conclusion}: {escape(row[f'reason_{phase}'])}")
    shared = " †" if row.get(f"exclusive_{phase}") is False else ""
    return Text(f"{conclusion} {times(value)} ({interval(row, f'speedup_{phase}')}){shared}")


def count(n: int, word: str) -> Text:
    """So many of something: `1 case`, `1,234 cases`."""
    return Text(f"{n:,} {word}{'' if n == 1 else 's'}")


def listed(words: Sequence[str], last: str = "and") -> Text:
    """Words in a row: `a, b and c`."""
    return Text(f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])))


def in_sentence(title: str) -> str:
    """A title as it stands within a sentence: `ONNX export` and `NaN stays in its row`, but `autocast to bfloat16`."""
    return title[:1].lower() + title[1:] if title.partition(" ")[0][1:].islower() else title


def amount_of_bytes(value: float) -> Text:
    """Bytes in the unit that a person would choose."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < _ROUNDS_UP:
            return Text(f"{value:.3g} {unit}")
        value /= 1000
    return Text(f"{value:.3g} TB")


def seconds(value: float | None) -> Text:
    """A time in seconds, milliseconds or microseconds."""
    if value is None or math.isnan(value):
        return Text("–")
    ms = 1e3 * value
    factor, unit = (1, "s") if ms >= _ROUNDS_UP else (1e3, "ms") if 1e3 * ms >= _ROUNDS_UP else (1e6, "µs")
    return Text(f"{f'{factor * value:#.3g}'.rstrip('.')} {unit}")


def rate(value: float | None, unit: str) -> Text:
    """A rate in the multiple of its unit, from giga on, that a person would choose: `51.2 TFLOP/s`."""
    giga = (value or 0) / 1e9
    return Text(f"{giga / 1e3:.3g} T{unit}" if giga >= _ROUNDS_UP else f"{giga:.3g} G{unit}")


def cudnn_version(number: int | str) -> str:
    """CuDNN's version as its makers write it: 91900 is 9.19.0, 8902 was 8.9.2."""
    if not str(number).isdigit():
        return str(number)
    major = 10_000 if int(number) >= 10_000 else 1_000
    return f"{int(number) // major}.{int(number) % major // 100}.{int(number) % 100}"


def sizes(row: Mapping[str, Any]) -> Text:
    """The sizes of a case in the letters of the axes."""
    letters = {"T": "sequence_length", "B": "batch_size", "I": "input_size", "H": "hidden_size", "L": "num_layers"}
    words = [f"{letter} {row[axis]}" for letter, axis in letters.items()]
    words += [f"dropout {row['dropout']:g}", str(row["dtype"]), *(["TF32"] if row["tf32"] else []), str(row["device"])]
    return Text(", ".join([*words, count(row["threads"], "CPU thread")]))


def quote(text: str) -> Text:
    """A block of Markdown as a quotation, which the page shows as a card."""
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip()
    return Text("\n".join(f"> {line}".rstrip() for line in text.split("\n")))


_FILTERS = (
    code, html, number, percent, fixed, times, interval, speedup, count, listed, amount_of_bytes, seconds, sizes,
    rate, cudnn_version, quote,
)  # fmt: skip
