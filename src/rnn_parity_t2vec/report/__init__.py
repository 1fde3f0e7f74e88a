"""The report on decoder sweeps, and the figures that it adds. Imports nothing heavy: the Snakefile reads it."""

from __future__ import annotations

from rnn_parity.report.figures import FigureEntry

FIGURES = {
    "decoder_attribution": FigureEntry(
        "Where the gain in t2vec's decoder comes from",
        "Time as a share of the original's, from the decoder as t2vec is written to the replaced one, of the "
        "largest case. A bar that hangs is what a change saves, with the interval of the way it "
        "leads to. The upper order changes attention first, the lower one the layer; the share in brackets is "
        "of the time that both save.",
        "attribution",
    ),
    "decoder_training": FigureEntry(
        "The same training with both",
        "Loss per token of trainings from the same weights and data, of the largest case that was trained. "
        "Above, the curves laid over each other. Below, on the left and in the middle, the distance of the candidate's "
        "from the baseline's, beside the floor: the largest of the baseline's own, begun one rounding away. On the "
        "right each draws masks of its own: a point is the mean of the last quarter of one training.",
        "training",
    ),
}
"""As `rnn_parity.report.figures.FIGURES`."""
