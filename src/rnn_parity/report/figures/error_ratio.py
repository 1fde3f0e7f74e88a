"""How near each quantity comes to its limit, sweep by sweep."""

from __future__ import annotations

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rnn_parity.experiment.vocabulary import FAILING, UNDECIDED
from rnn_parity.findings import figure_tables
from rnn_parity.report.figures import style
from rnn_parity.report.figures.layout import Study, heat_map, panel_grid

_SPAN = 30.0
_COLUMN_MM, _NARROWEST_MM, _ROW_MM, _BAR_MM, _NAMES_MM = 13.0, 4.2, 5.5, 18.0, 38.0


def plot(study: Study) -> Figure:
    """Plot a heat map per candidate, side by side while they fit, coloured around 1."""
    table = figure_tables.error_ratio(study.equivalence)
    candidates = [name for name in study.candidates if name in set(table["implementation"])]
    if not candidates:
        return style.say_no_data("Errors over limits need a case in eval or train_matched_masks.")
    every, quantities = list(table["sweep"].unique()), list(table["quantity"].unique())
    room_mm = study.width_mm - _NAMES_MM - _BAR_MM
    sweeps = every[: int(room_mm // _NARROWEST_MM)]
    column_mm = min(_COLUMN_MM, room_mm / len(sweeps))
    turned = column_mm < 11 or max(map(len, sweeps)) > 9
    size_pt = 6.5 if column_mm > 8 else 5 if column_mm > 5.5 else 4
    map_mm = column_mm * len(sweeps)
    norm, colours = LogNorm(1 / _SPAN, _SPAN), sns.color_palette("vlag", as_cmap=True)

    def plot_panel(axes: Axes, name: str) -> None:
        found = table[table["implementation"] == name].pivot(index="quantity", columns="sweep")
        found = found.reindex(index=quantities).reindex(columns=sweeps, level="sweep")
        verdicts = found["verdict"]
        ratios = found["ratio"].astype(float).mask(verdicts.isin(UNDECIDED))
        heat_map(axes, ratios, verdicts.isin(UNDECIDED), norm, colours, size_pt)
        for y, x in zip(*verdicts.isin(FAILING).to_numpy().nonzero(), strict=True):
            frame = {"fill": False, "edgecolor": "black", "lw": 1.1, "zorder": 4}
            axes.add_patch(Rectangle((x + 0.05, y + 0.07), 0.9, 0.86, **frame))
        axes.set_ylim(len(quantities), 0)
        if turned:
            axes.set_xticks(axes.get_xticks(), sweeps, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_title(style.wrapped(name, int(map_mm / 1.45) + 6))

    width_mm = min(study.width_mm, max(style.COLUMN_MM, _NAMES_MM + map_mm * len(candidates) + _BAR_MM))
    row_mm = _ROW_MM * len(quantities) + (14 if turned else 6)
    figure, grid = panel_grid(
        width_mm, candidates, plot_panel, least_mm=map_mm + 24, row_mm=row_mm, most_rows=len(candidates), sharey=True
    )
    label = "worst error / limit (passes below 1)"
    bar = style.ratio_bar(figure, grid, norm, colours, [0.03, 0.1, 0.3, 1, 3, 10, 30], label, aspect=25, extend="both")
    bar.ax.axhline(1, color=style.DARK, lw=1.2)
    style.left_out(figure, len(every) - len(sweeps), "sweep")
    return figure
