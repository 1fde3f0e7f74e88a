"""How near each quantity comes to its limit, sweep by sweep."""

from __future__ import annotations

import itertools

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rnn_parity.experiment.vocabulary import FAILING, UNDECIDED
from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study, heat_map, plot_rows

_SPAN = 30.0
_COLUMN_MM, _NARROWEST_MM, _ROW_MM, _BAR_MM, _NAMES_MM = 13.0, 4.2, 5.5, 18.0, 38.0


def plot(study: Study) -> Figure:
    """Plot a heat map per candidate, side by side while they fit, coloured around 1."""
    table = figure_tables.error_ratio(study.equivalence)
    candidates = [name for name in study.candidates if name in set(table["implementation"])]
    if not candidates:
        return style.say_no_data("Errors over limits need a case in eval or train_matched_masks.")
    rows_of = {name: table[table["implementation"] == name] for name in candidates}
    room_mm = study.width_mm - _NAMES_MM - _BAR_MM
    most = int(room_mm // _NARROWEST_MM)
    sweeps = {name: list(rows["sweep"].unique())[:most] for name, rows in rows_of.items()}
    quantities = {name: list(rows["quantity"].unique()) for name, rows in rows_of.items()}
    columns = max(map(len, sweeps.values()))
    column_mm = min(_COLUMN_MM, room_mm / columns)
    turned = column_mm < 11 or max(len(sweep) for some in sweeps.values() for sweep in some) > 9
    size_pt = 6.5 if column_mm > 8 else 5 if column_mm > 5.5 else 4
    map_mm = column_mm * columns
    norm, colours = LogNorm(1 / _SPAN, _SPAN), sns.color_palette("vlag", as_cmap=True)

    def plot_panel(axes: Axes, name: str) -> None:
        found = rows_of[name].pivot(index="quantity", columns="sweep")
        found = found.reindex(index=quantities[name]).reindex(columns=sweeps[name], level="sweep")
        verdicts = found["verdict"]
        ratios = found["ratio"].astype(float).mask(verdicts.isin(UNDECIDED))
        heat_map(axes, ratios, verdicts.isin(UNDECIDED), norm, colours, size_pt)
        for y, x in zip(*verdicts.isin(FAILING).to_numpy().nonzero(), strict=True):
            frame = {"fill": False, "edgecolor": "black", "lw": 1.1, "zorder": 4}
            axes.add_patch(Rectangle((x + 0.05, y + 0.07), 0.9, 0.86, **frame))
        axes.set(xlim=(0, columns), ylim=(len(quantities[name]), 0))  # cells of one width, however few the sweeps
        if turned:
            axes.set_xticks(axes.get_xticks(), sweeps[name], rotation=40, ha="right", rotation_mode="anchor")
        axes.set_title(style.wrapped(name, int(map_mm / 1.45) + 6))

    # Side by side stand only candidates with the same quantities, which are those of one kind of cell.
    alike = [list(names) for _, names in itertools.groupby(candidates, key=quantities.__getitem__)]
    widest = max(map(len, alike))
    width_mm = min(study.width_mm, max(style.COLUMN_MM, _NAMES_MM + map_mm * widest + _BAR_MM))
    across = style.fitting(width_mm, map_mm + 24, widest)
    rows = [names[at : at + across] for names in alike for at in range(0, len(names), across)]
    lines = [len(quantities[row[0]]) for row in rows]
    row_mm = _ROW_MM * sum(lines) / len(lines) + (14 if turned else 6)
    heights = {"height_ratios": lines}
    figure, grid = plot_rows(width_mm, rows, plot_panel, row_mm=row_mm, sharey="row", gridspec_kw=heights)
    label = "worst error / limit (passes below 1)"
    bar = style.ratio_bar(figure, grid, norm, colours, [0.03, 0.1, 0.3, 1, 3, 10, 30], label, aspect=25, extend="both")
    bar.ax.axhline(1, color=style.DARK, lw=1.2)
    shown = {sweep for some in sweeps.values() for sweep in some}
    style.left_out(figure, table["sweep"].nunique() - len(shown), "sweep")
    return figure
