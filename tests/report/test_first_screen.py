"""The first screen of the report: the answer, which candidate to take, what is gained and what is lost."""

import re
from types import SimpleNamespace

import pandas as pd
import pytest
from test_report import SMOKE, card
from test_report import report as report
from test_report import tables as tables

from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings.answer import SameSeed
from rnn_parity.report.caveats import find_caveats
from rnn_parity.report.facts import collect_facts
from rnn_parity.report.first_screen import answer_lines
from rnn_parity.report.gate import gate
from synthetic import equivalence_rows, results_of, timing_rows

RIVALS = ["slow", "fast_in_training", "fast_in_inference", "close_in_training", "wrong"]


@pytest.fixture
def rivals(report):
    """Five candidates for one baseline, in an order that is not their rank."""
    names = [f"rivals:{name}" for name in RIVALS]
    config = SMOKE | {"candidates": names}
    grid = make_grid(config)
    timing = pd.DataFrame(timing_rows(grid))
    for name, inference, step in zip(names, (0.9, 1.2, 3.0, 1.1, 9.0), (0.8, 2.0, 1.1, 1.98, 9.0), strict=True):
        for phase, speedup in (("inference", inference), ("step", step)):
            mine = (timing["implementation"] == name) & (timing["phase"] == phase)
            interval = [speedup, 0.98 * speedup, 1.02 * speedup]
            timing.loc[mine, ["speedup", "speedup_ci_low", "speedup_ci_high"]] = interval
            timing.loc[mine, "conclusion"] = "faster" if speedup > 1 else "slower"
    wrong = pd.DataFrame(equivalence_rows(grid, wrong=names[-1]))
    return lambda change=lambda table: table: report(wrong, change(timing), config)[0]


def test_several_candidates_are_ranked_and_the_best_for_each_use_is_named(rivals):
    markdown = rivals()
    take = (
        "take `rivals:fast_in_inference` for inference and `rivals:fast_in_training` or `rivals:close_in_training` for"
    )
    assert take in card(markdown)
    assert "inference is 3.00× as fast (2.94–3.06) and a training step is 2.00× as fast (1.96–2.04)" in card(markdown)
    ranked = re.findall(r"^\| `rivals:(\w+)` \| \*\*", markdown, re.MULTILINE)
    assert ranked == ["fast_in_training", "close_in_training", "fast_in_inference", "slow", "wrong"]
    assert markdown.index("rivals:wrong") > markdown.index("| drawbacks, or why not |")


def test_a_baseline_stays_where_nothing_that_may_replace_it_is_faster(rivals):
    def noise(timing):
        right = timing["implementation"].isin([f"rivals:{name}" for name in RIVALS[:-1]])
        return timing.assign(conclusion=timing["conclusion"].mask(right, "within noise"))

    assert card(rivals(noise)).startswith("**Keep `stacking_gru_cell`.** At least one candidate may replace it")


@pytest.mark.slow
@pytest.mark.parametrize("conclusion", ["disturbed", "slower", "within noise"])
def test_a_phase_in_which_nobody_is_faster_is_said_with_what_is_concluded_of_it(rivals, conclusion):
    def concluded(timing):
        right = timing["implementation"].isin([f"rivals:{name}" for name in RIVALS[:-1]])
        return timing.assign(conclusion=timing["conclusion"].mask(right & timing["phase"].eq("inference"), conclusion))

    assert f"Inference is {conclusion} there." in card(rivals(concluded))


def test_one_answer_is_told_in_two_lines_for_a_terminal(tables):
    config, results = make_grid(SMOKE).config, results_of(*tables)
    lines = answer_lines(collect_facts(config, {}, results)["answers"])
    assert lines == [
        "May stacking_gru replace stacking_gru_cell? Yes, when the same seed need not give the same dropout masks",
        "Gained in the largest case: inference 1.50× (1.46–1.54) with stacking_gru; "
        "training step 1.50× (1.46–1.54) with stacking_gru",
    ]


@pytest.mark.slow
def test_each_of_several_candidates_gets_its_own_answer(report):
    config = SMOKE | {"candidates": ["torch.nn:GRU", "stacking_gru"]}
    grid = make_grid(config)
    rows = equivalence_rows(grid, wrong="torch.nn:GRU")
    markdown, _ = report(pd.DataFrame(rows), pd.DataFrame(timing_rows(grid)), config)
    assert card(markdown).startswith("**Take `stacking_gru` in place of `stacking_gru_cell`.**")
    assert "With `stacking_gru` the same seed gives other dropout masks." in card(markdown)
    same = pd.DataFrame(rows).assign(verdict=lambda table: table["verdict"].mask(
        table["regime"].eq("train_same_seed"), "identical"
    ))  # fmt: skip
    assert "same seed" not in card(report(same, pd.DataFrame(timing_rows(grid)), config)[0])
    ranked = re.findall(r"^\| `(\S+)` \| \*\*(.*?)\*\* \|", markdown, re.MULTILINE)
    assert ranked == [("stacking_gru", "yes, but"), ("torch.nn:GRU", "no")]
    assert "\n\n**No.** `torch.nn:GRU` must not replace" in markdown


@pytest.mark.slow
def test_the_opening_quotes_the_sweep_that_is_asked_for(report, tables):
    equivalence, timing = tables
    for sweep in ("article", "width"):
        config = SMOKE | {"report": {"title": "x", "sweep": sweep}}
        assert f"In the largest case of `{sweep}`, " in card(report(equivalence, timing, config)[0])


@pytest.mark.slow
def test_the_opening_says_in_how_many_cases_each_regime_was_compared(report, tables):
    equivalence, timing = tables
    moot = (equivalence["regime"] == "train_matched_masks") & (equivalence["sweep"] == "article")
    text = card(report(equivalence[~moot], timing)[0])
    assert (
        "identical or equivalent, with dropout off and with dropout on and the same masks (2 of the 5 cases)." in text
    )
    text = card(report(equivalence, timing)[0])
    assert "identical or equivalent, with dropout off and with dropout on and the same masks." in text


@pytest.mark.slow
def test_the_card_names_what_is_lost_from_the_tables(report, tables):
    equivalence, timing = tables
    text = card(report(equivalence, timing)[0])
    assert "- **You lose.** The same seed gives other dropout masks, so 4 of the 5 cases with dropout" in text
    ours = timing["implementation"] == "stacking_gru"
    slow = ours & (timing["phase"] == "step") & (timing["sweep"] == "width") & (timing["hidden_size"] == 8)
    timing.loc[slow, "conclusion"] = "slower"
    timing.loc[ours & (timing["phase"] == "inference"), "peak_memory_bytes"] *= 3
    text = card(report(equivalence, timing)[0])
    assert "A training step is slower in 1 case (width H 8). In the case above inference takes 3.00×" in text


@pytest.mark.parametrize(
    ("differing", "drawing", "words"),
    [
        (1, 1, "so the one case with dropout between layers differs,"),
        (2, 2, "so both cases with dropout between layers differ,"),
        (1, 7, "so 1 of the 7 cases with dropout between layers differs,"),
        (7, 7, "so all 7 cases with dropout between layers differ,"),
    ],
)
def test_the_number_of_cases_with_other_masks_is_a_whole_sentence(differing, drawing, words):
    seed = SameSeed(drawing, differing, 2, 3, always=True, masks_differ=0.3, out_of_sight=False)
    (caveat,) = find_caveats(SimpleNamespace(same_seed=seed, conditions=()), (), (), {}, (), {})
    assert words in caveat


def test_within_noise_is_said_with_the_noise(report, tables):
    equivalence, timing = tables
    timing.loc[timing["conclusion"] == "faster", "conclusion"] = "within noise"
    markdown, _ = report(equivalence, timing)
    assert "is **within noise: 1.50×** the speed" in markdown
    assert "the baseline against itself 0.99–1.01" in markdown
    assert "| step | 0 of 5 cases | 5 | 0 | 0 |" in markdown


def test_the_first_screen_answers(report, tables):
    markdown, html = report(*tables)
    assert card(markdown).startswith("**Yes, when the same seed need not give the same dropout masks.**")
    assert "- **Checked.** In all 5 cases its output" in card(markdown)
    assert "from T = 2 and L = 3 on" in markdown
    assert "Yes, when the same seed" in html


def test_a_wrong_candidate_turns_it_into_a_no(report, tables):
    wrong = pd.DataFrame(equivalence_rows(make_grid(SMOKE), wrong="stacking_gru"))
    answer = card(report(wrong, tables[1])[0])
    assert answer.startswith("**No.** `stacking_gru` must not replace `stacking_gru_cell`")
    assert "× its limit" in answer
    assert "5 of 5 cases" in answer


def test_a_no_in_two_lines_says_why(tables):
    wrong = pd.DataFrame(equivalence_rows(make_grid(SMOKE), wrong="stacking_gru"))
    answer, why = answer_lines(collect_facts(make_grid(SMOKE).config, {}, results_of(wrong, tables[1]))["answers"])
    assert answer == "May stacking_gru replace stacking_gru_cell? No"
    assert re.fullmatch(r"Why: stacking_gru: output: error is \S+× its limit", why)


def test_many_sweeps_are_folded(report):
    config = SMOKE | {"sweeps": {f"s{at}": {"sequence_length": 1, "num_layers": 1, "dropout": 0.0} for at in range(21)}}
    grid = make_grid(config)
    markdown, html = report(pd.DataFrame(equivalence_rows(grid)), pd.DataFrame(timing_rows(grid)), config)
    assert "<summary>21 rows of sweeps</summary>\n\n| sweep | cases |" in markdown
    for text in (markdown, html):
        assert text.count("<details") == text.count("</details>")


@pytest.fixture
def without_gradients(tables):
    """Tables of a layer without a backward pass in evaluation mode, as cuDNN's."""
    equivalence, timing = tables
    refused = equivalence["quantity"].str.startswith("grad_") & (equivalence["regime"] == "eval")
    numbers = [name for name in equivalence if name.endswith(("_2", "_inf", "diff", "ratio"))]
    equivalence.loc[refused, numbers] = float("nan")
    equivalence.loc[refused, ["verdict", "reason"]] = ["unsupported", "cudnn RNN backward needs training mode"]
    return equivalence, timing


def test_gradients_that_are_not_given_in_one_regime_are_one_fact(report, without_gradients):
    markdown, html = report(*without_gradients)
    assert card(markdown).startswith(
        "**Yes, when the same seed need not give the same dropout masks, and when no gradients are needed with "
        "dropout off.**"
    )
    assert "With dropout off it gives no gradients, in all cases: cudnn RNN backward needs training mode." in markdown
    assert "**unsupported**" not in markdown
    assert "| unsupported |" not in markdown
    assert not re.search(r"\*\* \| – in `grad", markdown)  # the largest error that was judged is still told
    assert "with dropout off, in 5 cases, every gradient: cudnn" in markdown
    assert "unsupported" not in html.partition('id="cases"')[2]


def test_the_gate_counts_a_case_without_some_gradients_as_one_that_holds(without_gradients):
    passes, text = gate(without_gradients[0])
    assert passes
    assert text == "gate: 5 of 5 cases hold; with dropout off stacking_gru gives no gradients\n"


def test_a_no_says_in_which_cases_it_is_one_and_that_the_others_hold(report, without_gradients):
    equivalence, timing = without_gradients
    finer = equivalence["sweep"] == "article"
    equivalence.loc[finer, "dtype"] = "float64"
    wrong = finer & (equivalence["regime"] == "train_matched_masks") & (equivalence["quantity"] == "output")
    equivalence.loc[wrong, ["verdict", "reason", "ratio"]] = ["different", "it is another probability", 4.6e5]
    markdown, _ = report(equivalence, timing)
    assert "This is so in 3 of 5 cases, those with " in markdown
    assert "In 2 other cases it holds; with dropout off it gives no gradients." in markdown
    assert "4.6 × 10⁵ in `output`" in markdown
