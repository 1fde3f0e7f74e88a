"""The report on decoder sweeps, and the figures that it adds. Imports nothing heavy: the Snakefile reads it."""

from __future__ import annotations

from rnn_parity.report.figures import FigureEntry

FIGURES = {
    "decoder_attribution": FigureEntry(
        "Where the gain in t2vec's decoder comes from",
        "Time as a share of the original decoder's, in the largest case. A coloured bar is what a change saves. Its "
        "line is the interval of the time after the change. The upper order changes attention first, the lower one "
        "the layer. The share in brackets is of the time that both save.",
        table="attribution",
    ),
    "decoder_training": FigureEntry(
        "The same training with both",
        "Loss per token of trainings from the same weights and data, in the largest case that was trained. Above: the "
        "curves. Below, on the left and in the middle: the distance of the candidate's loss from the baseline's, "
        "beside the floor, the largest distance of the baseline's own trainings from weights one rounding away. On "
        "the right each draws masks of its own: a point is the mean of the last quarter of one training.",
        table="training",
    ),
}
"""As `rnn_parity.report.figures.FIGURES`."""
