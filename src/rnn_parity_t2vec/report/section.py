"""What the report's section on the decoder is made of."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from rnn_parity.experiment.vocabulary import axis_word
from rnn_parity.findings.cases import case_frame, swept_axes
from rnn_parity.report.sections import Section
from rnn_parity_t2vec.report.entries import FIGURES
from rnn_parity_t2vec.report.findings import MODE_WORDS, PHASE_WORDS, WAY_WORDS, facts, saved


def section(config: Mapping, results: Mapping[str, pd.DataFrame]) -> Section:
    """The section on the decoder sweeps of an experiment."""
    found = {
        "decoder": [facts(results, name) for name in config["candidates"]],
        "decoder_figures": FIGURES,
        "decoder_cases": _case_words(results),
        "decoder_phases": PHASE_WORDS,
        "way_words": WAY_WORDS,
        "mode_words": MODE_WORDS,
        "saved": lambda speedup: abs(saved(speedup)),
    }
    return Section("rnn_parity_t2vec.report", "decoder_answer.md.j2", "decoder.md.j2", found)


def _case_words(results: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Id of a decoder case to its sweep and what that varies, in words."""
    words = {}
    every = pd.concat([results["attribution"], results["training"]])
    for sweep, cases in case_frame(every).groupby("sweep", sort=False):
        swept = swept_axes(cases)
        for case in cases.to_dict("records"):
            words[case["case_id"]] = " ".join([str(sweep), *(axis_word(axis, case[axis]) for axis in swept)])
    return words
