"""How much of what this machine reaches each implementation uses. Pure pandas: the timing table and the peaks in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rnn_parity.experiment.vocabulary import RATE_AXES
from rnn_parity.tables import CASE_COLUMNS
from rnn_parity.timing.roofline import floor_s, step_floor_s

_SETTING = ["machine", *RATE_AXES]
_RATES = ["gemm_flops_per_s", "copy_bytes_per_s"]
_MEASURED = ["median_s", "flops", "sequential_flops", "least_bytes", "step_gemm_flops_per_s"]


def efficiency_table(timing: pd.DataFrame, peaks: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per timed case × implementation × phase, beside it the peaks of its machine in its setting.

    A setting is a device, dtype, TF32 and threads.

    `floor_s` and `step_floor_s` as in `rnn_parity.timing.roofline`; `share_of_peak` is the matrix products' rate over
    the machine's best. Empty (NaN) where there are no peaks of that setting of that kind of machine.
    """
    timed = timing.loc[timing["median_s"].notna(), [*CASE_COLUMNS, "implementation", "phase", "machine", *_MEASURED]]
    kinds = timed[_SETTING].dtypes.to_dict() | dict.fromkeys(_RATES, float)
    rates = pd.DataFrame(list(peaks), columns=list(kinds)).astype(kinds).drop_duplicates(_SETTING)
    table = timed.merge(rates, on=_SETTING, how="left")
    table["floor_s"] = floor_s(*(table[name] for name in ("flops", "least_bytes", *_RATES)))
    table["step_floor_s"] = step_floor_s(
        *(table[name] for name in ("flops", "sequential_flops", "gemm_flops_per_s", "step_gemm_flops_per_s"))
    )
    table["share_of_peak"] = table["flops"] / table["median_s"] / table["gemm_flops_per_s"]
    return table
