"""What the report's section on the decoder is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import axis_word
from rnn_parity.findings.cases import case_frame, swept_axes
from rnn_parity.tables import DECODER
from rnn_parity_t2vec.entries import FIGURES
from rnn_parity_t2vec.findings import MODE_WORDS, PHASE_WORDS, WAY_WORDS, DecoderTables, facts, saved


def decoder_tables(results: Mapping[str, pd.DataFrame]) -> DecoderTables:
    """The decoder's tables among the collected ones."""
    return DecoderTables(*(results[name] for name in DECODER), results["timing"], results["equivalence"])


def section(config: Mapping, results: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The template's facts; no candidate where the experiment has no decoder sweep."""
    tables = decoder_tables(results) if DECODER.keys() <= results.keys() else None
    return {
        "decoder": [facts(tables, name) for name in config["candidates"]] if tables else [],
        "decoder_figures": FIGURES,
        "decoder_cases": _case_words(tables) if tables else {},
        "decoder_phases": PHASE_WORDS,
        "way_words": WAY_WORDS,
        "mode_words": MODE_WORDS,
        "saved": lambda speedup: abs(saved(speedup)),
    }


def _case_words(tables: DecoderTables) -> dict[str, str]:
    """Id of a decoder case to its sweep and what that varies, in words."""
    words = {}
    every = pd.concat([tables.attribution, tables.training])
    for sweep, cases in case_frame(every).groupby("sweep", sort=False):
        swept = swept_axes(cases)
        for case in cases.to_dict("records"):
            words[case["case_id"]] = " ".join([str(sweep), *(axis_word(axis, case[axis]) for axis in swept)])
    return words
