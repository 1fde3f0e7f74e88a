"""The equivalence table of twelve cases, kept: what the verdicts said once they say today.

Sensitivities and limits come from float64 arithmetic and are the same anywhere. An error of a layer depends on the
kernels of its processor and its torch: where both are those of the kept table, errors and bit-identity are held too.
`python tests/compare/test_golden.py` writes the table anew.
"""

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from rnn_parity.compare.case import compare_case
from rnn_parity.experiment.grid import Case
from rnn_parity.workloads.layer import Layer

KEPT = Path(__file__).with_name("golden.csv")
CASES = {
    "gru": [
        Case("golden", "cpu", "float32", False, 5, 10, 3, 1, 7, 0.1, 1),
        Case("golden", "cpu", "float32", False, 5, 10, 3, 12, 7, 0.5, 1),
        Case("golden", "cpu", "float32", False, 3, 16, 1, 8, 2, 0.0, 1),
        Case("golden", "cpu", "float64", False, 5, 8, 2, 10, 4, 0.3, 1),
        Case("golden", "cpu", "bfloat16", False, 4, 8, 2, 5, 3, 0.2, 1),
        Case("golden", "cpu", "float16", False, 4, 8, 2, 5, 3, 0.0, 1),
    ],
    **{
        cell: [
            Case("golden", "cpu", "float32", False, 5, 10, 3, 12, 7, 0.5, 1, cell),
            Case("golden", "cpu", "float64", False, 5, 8, 2, 10, 4, 0.3, 1, cell),
            Case("golden", "cpu", "bfloat16", False, 4, 8, 2, 5, 3, 0.2, 1, cell),
        ]
        for cell in ("lstm", "gru_reset_before")
    },
}
ALL = ["eval", "train_matched_masks", "train_same_seed"]
RUNS = {
    "gru": ("stacking_gru_cell", {"stacking_gru": ALL, "rnn_parity.trust.gru_faults:ResetBeforeProduct": ["eval"]}),
    "lstm": ("stacking_lstm_cell", {"stacking_lstm": ALL, "rnn_parity.trust.lstm_faults:ForgetBiasAdded": ["eval"]}),
    "gru_reset_before": (
        "stacking_gru_reset_before_cell",
        {"rnn_parity.trust.right:WrittenOut": ALL, "rnn_parity.trust.faults:SecondBiasIgnored": ["eval"]},
    ),
}
KEY = ["case_id", "implementation", "regime", "quantity"]
ANYWHERE = ["sensitivity_2", "limit_2"]
OF_THE_KERNELS = ["error_2", "baseline_error_2", "ratio"]
MACHINE = f"{torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}"


def compute():
    rows = []
    for cell, (baseline, candidates) in RUNS.items():
        for candidate, regimes in candidates.items():
            for case in CASES[cell]:
                rows += compare_case(Layer(), case, baseline, [candidate], [0], regimes)
    return pd.DataFrame(rows)[[*KEY, "verdict", "bit_identical", *ANYWHERE, *OF_THE_KERNELS]].set_index(KEY)


@pytest.fixture(scope="module")
def computed():
    return compute()


@pytest.fixture(scope="module")
def kept():
    return pd.read_csv(KEPT, comment="#", index_col=KEY)


def test_the_rows_and_their_verdicts_are_those_that_are_kept(computed, kept):
    assert computed.index.equals(kept.index)
    passes = ["identical", "equivalent"]
    assert (computed["verdict"].isin(passes) == kept["verdict"].isin(passes)).all()
    others = ~kept["verdict"].isin(passes)
    assert (computed["verdict"] == kept["verdict"])[others].all()
    assert set(kept["verdict"]) >= {*passes, "different"}


def test_sensitivities_and_limits_are_those_that_are_kept(computed, kept):
    pd.testing.assert_frame_equal(computed[ANYWHERE], kept[ANYWHERE], rtol=1e-6)


def test_on_the_same_kernels_errors_and_bits_are_those_that_are_kept(computed, kept):
    if MACHINE not in KEPT.read_text().partition("\n")[0]:
        pytest.skip(f"the kept errors are not of {MACHINE}")
    assert (computed["verdict"] == kept["verdict"]).all()
    assert (computed["bit_identical"] == kept["bit_identical"]).all()
    pd.testing.assert_frame_equal(computed[OF_THE_KERNELS], kept[OF_THE_KERNELS], rtol=1e-6)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with KEPT.open("w") as file:
        file.write(f"# {MACHINE}\n")
        compute().to_csv(file, float_format="%.9g")
    sys.stdout.write(f"{KEPT}\n")
