"""The rates of a self-test are those of what it found, counted by hand."""

import dataclasses

import numpy as np
import pandas as pd

from rnn_parity.experiment.vocabulary import FAULT_KINDS
from rnn_parity.findings.rates import (
    detected_by_none,
    detection,
    false_alarms,
    kept_rates,
    largest_hidden,
    totals,
    undetected_by_case,
    unmet_targets,
)
from rnn_parity.statistics import wilson

GROUP = {"device": "cpu", "cell": "lstm", "dtype": "float32"}
COARSE = GROUP | {"dtype": "bfloat16"}


def planted(finding, fault="h0 ignored", kind="equations", case="a", size_u=None, unequal=(0, 0), group=GROUP):
    row = group | {"case_id": case, "implementation": f"faults:{fault}", "kind": kind, "fault": fault}
    allclose, assert_close = unequal
    return row | {
        "finding": finding, "fault_size_u": size_u, "allclose_unequal": allclose, "assert_close_unequal": assert_close
    }  # fmt: skip


def right(alarms=0, case="a", comparisons=16, not_judged=0, ratio=0.4, unequal=(0, 0), group=GROUP):
    row = planted("held", "", "correct", case, unequal=unequal, group=group)
    return row | {"different": alarms, "comparisons": comparisons, "not_judged": not_judged, "ratio": ratio}


def table(*rows):
    return pd.DataFrame(rows)


TRIED = table(
    planted("caught", "no gradient", "backward", unequal=(3, 0), group=COARSE),
    planted("not judged", "no gradient", "backward", unequal=(1, 1), group=COARSE),
    planted("caught", unequal=(1, 1)),
    planted("caught", unequal=(0, 2)),
    planted("caught"),
    planted("missed", unequal=(1, 0)),
    planted("hidden", size_u=5.0),
    planted("hidden", size_u=9.0),
    planted("not judged"),
    planted("not exercised", size_u=99.0, unequal=(7, 7)),
    right(),
)
OF_SIX = dict(zip(("share", "share_ci_low", "share_ci_high"), (0.5, *wilson(3, 6)), strict=True))
OF_ONE = dict(zip(("share", "share_ci_low", "share_ci_high"), (1.0, *wilson(1, 1)), strict=True))


def test_every_outcome_of_a_planted_fault_is_counted():
    equations, backward = detection(TRIED).to_dict("records")
    expected = GROUP | {"kind": "equations", "implementation": "faults:h0 ignored", "fault": "h0 ignored", "cases": 8}
    expected |= {"exercised": 7, "caught": 3, "missed": 1, "hidden": 2, "not_judged": 1} | OF_SIX
    assert equations == expected | {"allclose": 2, "assert_close": 2, "largest_hidden_u": 9.0}
    counts = {"exercised": 2, "caught": 1, "missed": 0, "hidden": 0, "not_judged": 1, "allclose": 2, "assert_close": 1}
    assert backward.items() >= (COARSE | counts | OF_ONE).items()
    assert pd.isna(backward["largest_hidden_u"])


def test_faults_stand_by_kind_and_as_they_came():
    """As many as there really are: a sort that mixes equals does so from 17 rows on."""
    rows = [planted("caught", f"{n:02}", FAULT_KINDS[-n % 4], group=(COARSE, GROUP)[n % 2]) for n in range(60, 0, -1)]
    found = detection(table(*rows))
    expected = sorted(rows, key=lambda row: FAULT_KINDS.index(row["kind"]))
    assert list(found["fault"]) == [row["fault"] for row in expected]


def test_the_totals_of_each_group_are_those_of_all_its_faults():
    more = table(planted("missed", "z inverted", group=COARSE), planted("caught", "z inverted", unequal=(1, 1)))
    fine, coarse = totals(detection(pd.concat([TRIED, more]))).to_dict("records")
    assert list(coarse) == [
        "device", "cell", "dtype", "judged", "exercised", "caught", "missed", "hidden", "not_judged",
        "share", "share_ci_low", "share_ci_high", "allclose_passes", "assert_close_passes",
    ]  # fmt: skip
    assert list(coarse.values()) == [*COARSE.values(), 2, 3, 1, 1, 0, 1, 0.5, *wilson(1, 2), 1, 2]
    assert list(fine.values()) == [*GROUP.values(), 7, 8, 4, 1, 2, 1, 4 / 7, *wilson(4, 7), 5, 5]


def test_where_nothing_could_be_judged_no_share_is_known():
    [row] = detection(table(planted("not judged"))).to_dict("records")
    assert pd.isna(row["share"])
    assert (row["share_ci_low"], row["share_ci_high"]) == (0.0, 1.0)


def test_every_comparison_with_a_right_layer_is_counted_and_cases_are_counted_once():
    first, second = false_alarms(
        table(
            right(1, "a", not_judged=1, unequal=(2, 1)),
            right(group=COARSE, ratio=0.2),
            right(0, "a", ratio=3.5, unequal=(5, 0)),
            right(0, "b", comparisons=8, not_judged=2),
            right(2, "c", comparisons=8),
            planted("caught", case="d"),
        )
    ).to_dict("records")
    assert second["dtype"] == "bfloat16"
    assert first == GROUP | {
        "cases": 3, "comparisons": 48, "alarms": 3, "rate": 3 / 48, "cases_alarmed": 2,
        "cases_ci_low": wilson(2, 3)[0], "cases_ci_high": wilson(2, 3)[1], "not_judged": 3, "largest_ratio": 3.5,
        "allclose": 7, "assert_close": 1,
    }  # fmt: skip


def test_of_nothing_there_are_no_rates():
    nothing = TRIED[:0].assign(different=0, comparisons=0)
    assert false_alarms(nothing).empty
    assert set(totals(detection(nothing))[["share", "share_ci_low", "share_ci_high"]].dtypes) == {np.dtype(float)}
    assert largest_hidden(detection(nothing)) is None
    assert undetected_by_case(nothing) == detected_by_none(nothing) == []


def test_the_largest_fault_that_hides_is_the_largest_share_of_its_quantity():
    """2 roundoffs of bfloat16 are more than 99 of float32."""
    assert largest_hidden(detection(table(planted("caught", size_u=2.0)))) is None
    rows = [planted("hidden", size_u=99.0), planted("hidden", "z inverted", size_u=2.0, group=COARSE)]
    one_case = table(*rows, planted("missed", "outspoken", size_u=500.0, group=COARSE))
    assert largest_hidden(detection(one_case)) == {"dtype": "bfloat16", "fault": "z inverted", "share": 2 * 2.0**-8}


def test_each_target_that_is_not_met_is_told_in_words():
    hidden = [planted("hidden", case=str(n), group=COARSE) for n in range(3)]
    caught = detection(table(planted("missed"), *(planted("caught", case=str(n)) for n in range(199)), *hidden))
    alarms = false_alarms(table(right(2, comparisons=1999), right(1, comparisons=1000, group=COARSE)))
    assert unmet_targets(caught, alarms) == [
        "lstm in float32 on cpu: missed in 1 of 200 cases: h0 ignored",
        "lstm in bfloat16 on cpu: only 0 of 3 faults caught, at least 98 % expected",
        "lstm in float32 on cpu: 2 false alarms in 1,999 comparisons",
    ]


def test_cases_that_miss_the_same_faults_stand_together_and_the_sharpest_first():
    faults = [("r ignored", "equations"), ("z ignored", "equations"), ("no mask", "dropout"), ("cut", "backward")]
    outcomes = {"blunt": "0000", "sharp": "1111", "dull": "1001", "blunt too": "0000"}
    found = undetected_by_case(
        table(
            right(),
            *(
                planted("caught" if digit == "1" else "hidden", *fault, case=case)
                for case, digits in outcomes.items()
                for fault, digit in zip(faults, digits, strict=True)
            ),
        )
    )
    assert found == [
        {"case_ids": ["sharp"], "caught": 4, "tried": 4, "not_caught": {}},
        {"case_ids": ["dull"], "caught": 2, "tried": 4, "not_caught": {"equations": ["z ignored"], "dropout": None}},
        {
            "case_ids": ["blunt", "blunt too"], "caught": 0, "tried": 4,
            "not_caught": {"equations": None, "dropout": None, "backward": None},
        },
    ]  # fmt: skip


def test_cases_in_which_other_faults_were_tried_stand_apart():
    found = undetected_by_case(
        table(planted("caught", case="b"), planted("caught", case="a"), planted("caught", "cut", "backward", "a"))
    )
    assert [(row["case_ids"], row["tried"]) for row in found] == [(["b"], 1), (["a"], 2)]


def test_a_fault_that_one_case_catches_is_detected():
    cases = [("z ignored", "hidden", "a"), ("cut", "missed", "a"), ("z ignored", "caught", "b"), ("all", "hidden", "a")]
    rows = [planted(finding, fault, case=case) for fault, finding, case in cases]
    assert detected_by_none(table(right(), *rows)) == ["cut", "all"]


def test_the_kept_rates_of_one_kind_are_its_own():
    every = kept_rates()
    assert set(every.detection["cell"]) > {"gru", "lstm"}
    of_lstm = kept_rates(("lstm",))
    assert set(of_lstm.detection["cell"]) == set(of_lstm.false_alarms["cell"]) == {"lstm"}
    assert of_lstm.cases == 500
    assert kept_rates(("unheard_of",)).cases == 0
    assert set(every.power["fault"]) >= {""}
    assert every.environment["commit"]


def test_the_fewest_cases_of_any_dtype_are_the_cases_of_kept_rates():
    kept = kept_rates()
    assert dataclasses.replace(kept, false_alarms=pd.DataFrame({"cases": [7, 3, 5]})).cases == 3
