"""What the report's section on the decoder is made of."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from rnn_parity.findings.cases import case_frame, case_names
from rnn_parity.report.facts import Section
from rnn_parity_t2vec.report import FIGURES
from rnn_parity_t2vec.report.findings import MODE_WORDS, PHASE_WORDS, WAY_WORDS, facts


def section(config: Mapping, results: Mapping[str, pd.DataFrame]) -> Section:
    """The section on the decoder sweeps of an experiment."""
    every = pd.concat([results["attribution"], results["training"]])
    sweeps = case_frame(every).set_index("case_id")["sweep"]
    found = {
        "decoder": [facts(results, name) for name in config["cells"]["gru"]["candidates"]],
        "decoder_figures": FIGURES,
        "decoder_cases": {case_id: f"{sweeps[case_id]} {name}".strip() for case_id, name in case_names(every).items()},
        "decoder_phases": PHASE_WORDS,
        "way_words": WAY_WORDS,
        "mode_words": MODE_WORDS,
        "saved": lambda speedup: abs(1 - 1 / speedup),
    }
    return Section("rnn_parity_t2vec.report", "decoder_answer.md.j2", "decoder.md.j2", found)
