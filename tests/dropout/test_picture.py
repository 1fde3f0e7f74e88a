"""The table behind the picture of the dropout draws."""

import pandas as pd

from rnn_parity.dropout.picture import mask_rows
from rnn_parity.experiment.grid import Case
from rnn_parity.tables import MASKS

CASE = Case("article", "cpu", "float32", False, 5, 4, 3, 2, 3, 0.3, 1)


def test_the_same_stream_is_dealt_out_in_another_order():
    rows = pd.DataFrame(
        mask_rows(CASE, ["stacking_gru_cell", "stacking_gru", "faults:HiddenDropout", "faults:Crash"], seed=0)
    )
    assert set(rows.columns) == set(MASKS.names)
    # The third draws out of sight, the last raises.
    assert set(rows["implementation"]) == {
        "stacking_gru_cell",
        "stacking_gru",
    }
    loop, fused = (group for _, group in rows.groupby("implementation", sort=False))
    size = 2 * 2 * 3 * 4  # gaps, steps, rows, units
    assert sorted(loop["draw"]) == sorted(fused["draw"]) == list(range(size))
    by_draw = [group.set_index("draw")["kept"].sort_index() for group in (loop, fused)]
    pd.testing.assert_series_equal(*by_draw)
    first_step = (loop["step"] == 0) & (loop["gap"] == 0)
    assert set(loop[first_step]["draw"]) == set(range(12))
    assert set(loop[(loop["step"] == 0) & (loop["gap"] == 1)]["draw"]) == set(range(12, 24))
    assert set(fused[(fused["step"] == 1) & (fused["gap"] == 0)]["draw"]) == set(range(12, 24))
