"""The report says what the tables say, and is one safe file."""

import copy
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from conftest import PROJECT
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings import life_rates, rates
from rnn_parity.report.figures import FIGURES
from rnn_parity.report.markdown import amount_of_bytes, cudnn_version, escape, in_sentence, number, rate, seconds, times
from rnn_parity.report.tables import write_tables
from rnn_parity.report.write import MOST_CASES, write_report
from synthetic import (
    MACHINE,
    PIXEL,
    capability_rows,
    equivalence_rows,
    finding_rows,
    life_rows,
    results_of,
    timing_rows,
)

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
SHOWN = set(FIGURES) - {"crossover"}  # no sweep of it varies two sizes, and a figure with nothing in it is left out


@pytest.fixture
def tables():
    grid = make_grid(SMOKE)
    return pd.DataFrame(equivalence_rows(grid)), pd.DataFrame(timing_rows(grid))


@pytest.fixture
def report(tmp_path):
    """Write a report of some tables; give its Markdown and its HTML."""
    (tmp_path / "figures").mkdir()
    for name in FIGURES:
        (tmp_path / f"figures/{name}.svg").write_text(PIXEL)

    def write(equivalence, timing, config=SMOKE, environment=None, **trust):
        completed = make_grid(config).config
        results = results_of(equivalence, timing, **trust)
        write_report(completed, environment or {}, results, tmp_path)
        return tuple((tmp_path / name).read_text() for name in ("report.md", "report.html"))

    return write


def card(markdown):
    """The first block below the question, which the page shows as a card."""
    block = markdown.partition("## May it be replaced?\n\n")[2].partition("\n\n")[0]
    assert all(line.startswith(">") for line in block.splitlines())
    return re.sub("^> ?", "", block, flags=re.MULTILINE)


@pytest.mark.slow
def test_speedups_are_read_from_the_table(report, tables):
    equivalence, timing = tables
    assert "is **faster: 1.50×** the speed (95 % interval 1.46–1.54)" in report(equivalence, timing)[0]
    ours = timing["implementation"] == "stacking_gru"
    timing.loc[ours, ["speedup", "speedup_ci_low", "speedup_ci_high"]] = [0.7, 0.65, 0.75]
    timing.loc[ours, "conclusion"] = "slower"
    markdown, _ = report(equivalence, timing)
    assert "is **slower: 0.70×** the speed (95 % interval 0.65–0.75)" in markdown
    assert "**faster" not in markdown


@pytest.mark.slow
def test_what_was_timed_beside_other_jobs_says_so_beside_every_speedup(report, tables):
    equivalence, timing = tables
    alone, _ = report(equivalence, timing)
    assert "†" not in alone
    assert "beside" not in card(alone)
    shared, _ = report(equivalence, timing.assign(exclusive=False))
    assert "timed beside other jobs" in card(shared)
    sections = shared.split("## Every case")[1]
    assert sections.count("faster 1.50× (1.46–1.54) †") == sections.count("faster 1.50×") == len(timing) // 2
    assert shared.count("Timed while other jobs of the workflow ran.") >= 3  # below the figures
    assert "**Other jobs of the workflow ran beside them**" in shared


def test_disturbed_is_neither_faster_nor_slower_and_has_its_reason(report, tables):
    equivalence, timing = copy.deepcopy(tables)
    ours = timing["implementation"] == "stacking_gru"
    timing.loc[ours, ["conclusion", "reason"]] = ["disturbed", "the speedup was another in half of the rounds"]
    text, _ = report(equivalence, timing)
    cases = timing["case_id"].nunique()
    assert "has no speedup (disturbed: the speedup was another in half of the rounds)" in card(text)
    assert f"| step | 0 of {cases} cases | 0 | 0 | {cases} disturbed |" in text


def test_what_could_not_be_timed_or_judged_is_named_with_its_reason(report, tables):
    equivalence, timing = tables
    ours = timing["implementation"] == "stacking_gru"
    numbers = [name for name in timing if timing[name].dtype.kind == "f" and name.endswith(("_s", "up", "low", "high"))]
    timing.loc[ours, numbers] = np.nan
    timing.loc[ours, "conclusion"], timing.loc[ours, "reason"] = "failed", "out of memory | asked for 3 GiB"
    gradients = equivalence["quantity"].isin(["grad_h0", "grad_weight_hh_l1"]) & (equivalence["regime"] == "eval")
    equivalence.loc[gradients, "verdict"] = "not judged"
    equivalence.loc[gradients, "reason"] = "no backward in eval mode"
    measured = [name for name in equivalence if name.endswith(("_2", "_inf", "diff", "ratio"))]
    equivalence.loc[gradients, measured] = np.nan
    markdown, html = report(equivalence, timing)
    assert "has no speedup (failed: out of memory \\| asked for 3 GiB)" in markdown
    assert card(markdown).startswith("**Yes, as far as it could be judged, and when the same seed")
    assert "In 5 of them some quantities could not be judged. There the answer is neither yes nor no." in markdown
    assert "`grad_h0`, `grad_weight_hh_l1`: no backward in eval mode" in markdown
    assert_has_no_nan(markdown)
    assert_has_no_nan(html)


def assert_has_no_nan(text):
    visible = re.sub(r'"data:[^"]*"', "", text)
    assert not re.search(r"\b(nan|NaN|None|inf|NaT)\b", visible)


def test_a_whole_report_holds_no_empty_value(report, tables):
    setting = {"machine": MACHINE, "device": "cpu", "dtype": "float32", "tf32": False, "threads": 1}
    peaks = [setting | {"gemm_flops_per_s": 1.02e11, "copy_bytes_per_s": 3.1e10}]
    environment = {"cpu": {"model": "A CPU", "cores": 4}, "gpu": None, "commit": None, "peaks": peaks}
    environment |= {"variables": {"TORCHDYNAMO_DISABLE": "1"}, "not_published": "2 of 5 runs not published: no answer"}
    for text in report(*tables, environment=environment):
        assert_has_no_nan(text)
        assert "102 GFLOP/s" in text
        assert "A CPU, 4 cores" in text
        assert "TORCHDYNAMO_DISABLE=1" in text
        assert "When this was written, 2 of 5 runs not published: no answer." in text


def test_empty_tables_still_make_a_report(report, tables):
    markdown, _ = report(*(table.iloc[:0] for table in tables))
    assert card(markdown).startswith("**Not answered:**")
    assert "was not timed" in markdown
    assert "Nothing could be timed." in markdown
    assert re.findall(r"figures/(\w+)", markdown) == ["detection"]  # of the kept rates


def test_the_html_holds_every_picture_and_asks_for_nothing(report, tables):
    markdown, html = report(*tables, self_test=finding_rows(make_grid(SMOKE).cases))
    pictures = re.findall(r"figures/(\w+)\.png", markdown)
    assert sorted(pictures) == sorted(SHOWN)
    assert html.count("data:image/svg+xml;base64,") == len(SHOWN)
    references = re.findall(r'(?:src|href|action|srcset)="([^"]*)"', html) + re.findall(r"url\(([^)]*)\)", html)
    assert {reference[:5] for reference in references} <= {"data:"} | {r[:5] for r in references if r.startswith("#")}
    assert "@import" not in html
    assert all(f'alt="{FIGURES[name].title}"' in html for name in SHOWN)


def test_what_comes_from_config_and_tables_is_inert(report, tables):
    equivalence, timing = tables
    config = copy.deepcopy(SMOKE)
    config["report"]["title"] = "<script>alert(1)</script> | [x](javascript:alert(2)) ![y](http://example.org/z)"
    different = equivalence["verdict"] == "different"
    equivalence.loc[different, "reason"] = "a | b\n\n# `c` <img src=x onerror=alert(3)>"
    markdown, html = report(equivalence, timing, config)
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;" in html
    assert 'href="javascript' not in html
    assert "http://example.org" not in re.sub(r">[^<]*<", "><", html)
    assert r"- article, `train_same_seed`: a \| b \# \`c\` \<img src=x onerror=alert(3)\>" in markdown
    row = next(line for line in markdown.splitlines() if line.startswith("| article | "))
    assert len(re.findall(r"(?<!\\)\|", row)) == 8


@pytest.mark.slow
def test_no_value_opens_a_fold(report, tables):
    equivalence, timing = tables
    folds = report(equivalence, timing)[1].count("<details")
    equivalence.loc[equivalence["verdict"] == "different", "reason"] = "<details>\n<summary>a</summary>"
    assert report(equivalence, timing, SMOKE | {"report": {"title": "</details>"}})[1].count("<details") == folds


def test_escaping_leaves_nothing_for_markdown():
    assert escape("a|b*c_[d](e)<f>`g`\n\n# h") == r"a\|b\*c\_\[d\](e)\<f\>\`g\` \# h"
    assert escape(None) == escape(float("nan")) == "–"


@pytest.mark.slow
def test_a_figure_is_numbered_once_and_where_it_stands(report, tables):
    markdown, _ = report(*tables, self_test=finding_rows(make_grid(SMOKE).cases))
    assert re.findall(r"\*\*Figure (\d+)\.", markdown) == [str(at + 1) for at in range(len(SHOWN))]
    few, _ = report(tables[0][tables[0]["regime"] != "train_same_seed"], tables[1])
    assert re.findall(r"\*\*Figure (\d+)\.", few) == [str(at + 1) for at in range(len(SHOWN) - 1)]


@pytest.mark.slow
def test_a_long_table_of_cases_is_cut_with_the_worst_kept(report):
    sweeps = {"many": {"hidden_size": list(range(4, 4 + MOST_CASES + 30)), "sequence_length": 1}}
    grid = make_grid(SMOKE | {"sweeps": sweeps})
    equivalence, timing = equivalence_rows_of_one_quantity(grid), pd.DataFrame(timing_rows(grid))
    last = equivalence["case_id"] == grid.cases[-1].case_id
    equivalence.loc[last, ["verdict", "ratio", "reason"]] = ["different", 9.0, "error is 9× its limit"]
    markdown, html = report(equivalence, timing, SMOKE | {"sweeps": sweeps})
    assert html.count("<tr data-sweep") == MOST_CASES
    assert f'title="{grid.cases[-1].case_id}"' in html
    assert "the other 30 are in <code>tables/cases.csv</code>" in html
    assert f"{MOST_CASES + 30 - 40:,} more rows: `tables/cases.csv`." in markdown
    assert len(markdown) < 60_000


def equivalence_rows_of_one_quantity(grid):
    rows = pd.DataFrame(equivalence_rows(grid))
    return rows[(rows["quantity"] == "output") & (rows["regime"] == "eval")].reset_index(drop=True)


def test_every_table_is_written(tmp_path, tables):
    equivalence, timing = tables
    write_tables(results_of(equivalence, timing), {}, tmp_path / "tables")
    files = {path.stem: pd.read_csv(path) for path in (tmp_path / "tables").glob("*.csv")}
    drawn = {figure.table or name for name, figure in FIGURES.items()}
    assert set(files) >= {"equivalence", "timing", "verdicts", "speedup"} | drawn - {"detection"}
    assert len(files["equivalence"]) == len(equivalence)
    assert set(files["detection"]["cell"]) == set(files["false_alarms"]["cell"]) == {"gru"}  # as the figure has it
    assert len(files["speedup"]) == 5 * 4
    assert {"verdict", "cases", "worst_ratio", "worst_case_id", "worst_quantity", "reason"} <= set(files["verdicts"])


@pytest.mark.slow
def test_the_kept_rates_are_told_with_their_version_and_apart_from_what_was_tried_here(report, tables):
    cases, kept = make_grid(SMOKE).cases, rates.kept_rates(("gru",))
    held, _ = report(*tables, self_test=finding_rows(cases))
    there, here = held.split("**On this machine** a few random cases")
    assert f"version {kept.environment['rnn_parity']} on 500 random cases in each dtype" in there
    assert kept.environment["commit"][:12] in there
    ignored = kept.detection[kept.detection["fault"] == "h0 ignored"]
    judged = " | ".join(f"{row.caught} of {row.exercised - row.not_judged}" for row in ignored.itertuples())
    assert f"| equations | h0 ignored | {judged} |" in there
    assert "No fault above its limit was missed" in there
    assert "- float32 on cpu: 15 of 15 planted faults caught." in here
    assert "Does not hold" not in held
    broken, _ = report(*tables, self_test=finding_rows(cases, missed="h0 ignored"))
    there, here = broken.split("**On this machine** a few random cases")
    assert "Does not hold.** gru in float32 on cpu: missed in 5 of 5 cases: h0 ignored" in here
    assert "Does not hold" not in there


@pytest.mark.slow
def test_the_power_on_this_machine_goes_before_the_kept_one(report, tables):
    equivalence = tables[0].replace({"regime": {"train_matched_masks": "train_distribution"}})
    text, _ = report(equivalence, tables[1])
    assert "With 10,000 draws (T 12, H 16, L 3, dropout 0.1, 20 trials, kept rates of the machine above)" in text
    here = rates.kept_rates(("gru",)).power.assign(trials=3)
    text, _ = report(equivalence, tables[1], power=here.to_dict("records"))
    assert "3 trials, on this machine) it called these layers different" in text
    text, _ = report(*tables)
    assert "trials" not in text


@pytest.mark.slow
def test_it_says_which_case_of_the_grid_could_not_have_shown_a_fault(report, tables):
    cases = make_grid({**SMOKE, "sweeps": {**SMOKE["sweeps"], "dry": {"dropout": 0.0}}}).cases
    dry = pd.DataFrame(equivalence_rows(make_grid({**SMOKE, "sweeps": {**SMOKE["sweeps"], "dry": {"dropout": 0.0}}})))
    text, _ = report(dry, tables[1], coverage=finding_rows(cases))
    assert "Every fault shows in at least one case." in text
    assert "| dry | 2 of 3 | every fault of dropout |" in text
    text, _ = report(dry, tables[1], coverage=finding_rows(cases, missed="No gradient to h0"))
    assert "No case shows: No gradient to h0." in text


@pytest.mark.slow
def test_where_the_layers_part_comes_first_and_is_escaped(report, tables):
    names = ["stacking_gru_cell", "stacking_gru"]
    text, html = report(*tables, capabilities=capability_rows(names))
    assert "It lacks `vmap`, which the baseline has." in card(text)
    apart = text.split("what differs |")[1]
    assert "| `vmap` | works | **refuses**: TypeError: \\<b\\>\\| |" in apart
    assert "All of them can, with the same numbers where there are any: Repeatable." in apart
    assert "<b>" not in html
    same = [row | {"outcome": "works"} for row in capability_rows(names)]
    alike, _ = report(*tables, capabilities=same)
    assert "Nothing differs." in alike
    assert "which the baseline has" not in alike


def test_without_self_test_and_capabilities_only_the_kept_rates_are_told(report, tables):
    text, _ = report(*tables)
    assert "Nothing was tried on this machine" in text
    assert "On this machine" not in text
    assert "What each can do" not in text
    (kept,) = life_rates.totals(life_rates.kept_lives(("gru",))).to_dict("records")
    seen = " | ".join(str(kept[name]) for name in ("lives", "first_call", "caught", "named"))
    assert re.search(rf"\| all together \| \d+ \| {re.escape(seen)} \|", text)
    assert f"{kept['alarms']} of {kept['right_calls']:,} calls in {kept['right_lives']} lives were called wrong" in text


@pytest.mark.slow
def test_the_first_call_is_told_and_left_out_where_it_was_not_timed(report, tables):
    equivalence, timing = tables
    text, _ = report(equivalence, timing)
    own = timing[(timing["phase"] == "step") & (timing["flops"] == timing["flops"].max())].set_index("implementation")
    ours, theirs = (seconds(own.loc[name, "first_call_s"]) for name in ("stacking_gru", "stacking_gru_cell"))
    assert re.search(rf"^\| step \| .* \| {ours} \({theirs}\) \|$", text, re.MULTILINE)
    timing["first_call_s"] = float("nan")
    assert "| first call (baseline) |" not in report(equivalence, timing)[0]


@pytest.mark.slow
def test_on_a_gpu_it_says_how_busy_that_was_and_what_was_left_out(report, tables):
    equivalence, timing = tables
    assert "GPU busy" not in report(equivalence, timing)[0]
    own = timing["implementation"] == timing["baseline"]
    timing["device_busy_s"] = timing["median_s"] * own.map({True: 0.04, False: 0.61})
    timing["kernel_launches"] = own.map({True: 300.0, False: 40.0})
    text, _ = report(equivalence, timing)
    of = r"^\| \w+ \| `{}` \|.*\({} %\) \| {} \|"
    assert len(re.findall(of.format("stacking_gru_cell", 4, 300), text, re.MULTILINE)) == 4  # one for each phase
    assert len(re.findall(of.format("stacking_gru", 61, 40), text, re.MULTILINE)) == 4
    assert "In 20 of 40 measured calls the GPU is busy for less than half of the time (from 4 % to 61 %" in text
    assert "waits for the next kernel" in text
    assert "were left out" not in text
    assert "another process computed" not in text
    timing.loc[timing["case_id"] == timing["case_id"].iloc[0], ["throttled_rounds", "other_gpu_processes"]] = [3, 1]
    text, _ = report(equivalence, timing)
    assert "12 rounds with a clock below 95 % of its median were left out." in text  # in four phases
    assert "Beside 4, another process computed on the GPU: they are `disturbed`." in text


def test_calls_that_take_memory_from_the_system_are_told(report, tables):
    equivalence, timing = tables
    assert "so much memory from the system" not in report(equivalence, timing)[0]
    loop = timing["implementation"] == "stacking_gru_cell"
    timing = timing.assign(page_faults=timing["page_faults"].where(~loop, 1e6))
    cases = timing["case_id"].nunique()
    assert f"In {4 * cases}, a call took so much memory from the system that" in report(equivalence, timing)[0]


def test_a_figure_is_one_element_with_its_caption(report, tables):
    _, html = report(*tables)
    figures = re.findall(r"<figure>.*?</figure>", html, re.DOTALL)
    assert len(figures) == len(SHOWN)
    assert all(figure.count("<figcaption>") == figure.count("<img") == 1 for figure in figures)
    [caption] = [figure for figure in figures if "Speedup over the baseline" in figure]
    assert "Data: <code>tables/speedup.csv</code>." in caption


@pytest.mark.slow
def test_lives_are_shown_point_by_point_and_decide_the_card(report, tables):
    case = make_grid(SMOKE).cases[0]
    markdown, html = report(*tables, life=life_rows(case))
    assert "<summary>The 2 points that hold</summary>\n\nFirst call; Same seed." in markdown
    assert r"- **No states.** Refuses: TypeError: \<b\>\|" in markdown
    assert "<b>" not in html
    stale = {"when": "after its weights change", "quantity": "output", "reason": "is what it was before"}
    markdown, _ = report(*tables, life=life_rows(case, written=stale))
    assert card(markdown).startswith(
        "**No.** `stacking_gru` must not replace `stacking_gru_cell`: after its weights change, output is what it was"
    )
    second = {"condition": "no second derivatives are taken", "quantity": "grad_h0", "reason": "error is 7× its limit"}
    markdown, _ = report(*tables, life=life_rows(case, second_derivatives=second))
    assert card(markdown).startswith("**Yes, when the same seed need not give the same dropout masks")
    assert "and when no second derivatives are taken" in card(markdown)


def test_without_lives_the_report_has_no_such_section(report, tables):
    assert "Over many calls" not in report(*tables)[0]


def test_a_result_that_changed_while_it_was_timed_is_a_no_and_no_gain(report, tables):
    equivalence, timing = tables
    stale = timing["implementation"] != timing["baseline"]
    numbers = [name for name in timing if name.endswith("median_s") or name.startswith(("speedup", "q25", "q75"))]
    timing.loc[stale, numbers] = float("nan")
    timing.loc[stale, "conclusion"] = "different"
    timing.loc[stale, "reason"] = "its result changed while it was being timed: output is 9× its limit away"
    markdown, _ = report(equivalence, timing)
    answer = card(markdown)
    assert answer.startswith("**No.** `stacking_gru` must not replace `stacking_gru_cell`")
    assert "in inference, its result changed while it was being timed: output is 9×" in answer
    assert not re.search(r"\d× as fast|faster in [1-9]", markdown)


@pytest.mark.slow
def test_the_report_says_whether_it_ran_on_cuda_and_which_library_did(report, tables):
    equivalence, timing = tables
    assert "nothing here was run on CUDA" in report(equivalence, timing)[0]
    own = timing["implementation"] == "stacking_gru"
    on_gpu = timing.assign(device="cuda", path=own.map({True: "cuDNN, weights copied at every call", False: ""}))
    markdown = report(equivalence, on_gpu)[0]
    assert "| `stacking_gru` on the GPU | cuDNN, weights copied at every call, in float32 |" in markdown
    assert "| `stacking_gru_cell` on the GPU | operator by operator, in float32 |" in markdown


def test_numbers_and_units_are_those_that_a_person_would_write():
    assert [number(value) for value in (0.012, 131.4, 15_000, 4.6e5, 9.9e13, 3e-7)] == [
        "0.012", "130", "15,000", "4.6 × 10⁵", "9.9 × 10¹³", "3 × 10⁻⁷",
    ]  # fmt: skip
    assert [seconds(value) for value in (2.0, 0.0153, 9.6e-6, None)] == ["2.00 s", "15.3 ms", "9.60 µs", "–"]
    assert [rate(value, "FLOP/s") for value in (1.02e11, 1.234e12)] == ["102 GFLOP/s", "1.23 TFLOP/s"]
    assert [seconds(value) for value in (0.9996, 9.996e-4)] == ["1.00 s", "1.00 ms"]
    assert [amount_of_bytes(value) for value in (999, 999_600, 2.5e12)] == ["999 B", "1 MB", "2.5 TB"]
    assert [times(value) for value in (1.2, 12.34, 999.6, 1234.5)] == ["1.20×", "12.3×", "1,000×", "1,234×"]
    assert [in_sentence(title) for title in ("NaN stays", "ONNX export", "Autocast to x")] == [
        "NaN stays", "ONNX export", "autocast to x",
    ]  # fmt: skip
    assert [cudnn_version(value) for value in (91900, 8902, "none")] == ["9.19.0", "8.9.2", "none"]


def test_a_sweep_that_was_not_timed_says_so_once(report, tables):
    equivalence, timing = tables
    numbers = [name for name in timing if timing[name].dtype.kind == "f" and name.endswith(("_s", "up", "low", "high"))]
    article = timing["sweep"] == "article"
    timing.loc[article, numbers] = np.nan
    timing.loc[article, ["conclusion", "reason"]] = ["not judged", "it was cut off"]
    markdown, html = report(equivalence, timing)
    assert "**Not timed:** `article`, no case of it." in markdown
    section = markdown.split("<summary>article")[1].split("</details>")[0]
    assert section.count("it was cut off") == 1
    assert "| inference |" not in section
    assert_has_no_nan(markdown)
    assert_has_no_nan(html)
