"""What the documents name is there: files, commands with their options, the config's keys, the pinned versions."""

import itertools
import re
import shlex
import tomllib

import pandas as pd
import pytest
import typer
import yaml
from typer.testing import CliRunner

import rnn_parity
from project import PROJECT
from rnn_parity.commands.cli import app
from rnn_parity.experiment import devices
from rnn_parity.experiment.config import complete_config
from rnn_parity.experiment.config_files import load_config
from rnn_parity.experiment.grid import make_grid
from rnn_parity.findings import rates
from rnn_parity.findings.verdicts import must_hold
from rnn_parity.life.live import POINTS

DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), PROJECT / "reports/README.md"])
NEEDED = {"study": "any", "baseline": "stacking_gru_cell", "candidates": ["stacking_gru"]}
README = (PROJECT / "README.md").read_text()
TRUST = " ".join((PROJECT / "docs/trust.md").read_text().split())


def fenced(language):
    """Every fenced block in `language`, of all documents."""
    return [
        block
        for document in DOCUMENTS
        for block in re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    ]


def anchors(document):
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document):
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if link.startswith("https://"):
            continue
        path, _, heading = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def test_the_index_of_the_documents_is_whole():
    index = (PROJECT / "docs/README.md").read_text()
    assert {path.name for path in PROJECT.glob("docs/*.md")} - set(re.findall(r"[\w-]+\.md", index)) == {"README.md"}


def commands():
    """Every `rnn-parity …` of the documents, as words."""
    lines = [line for block in fenced("sh") for line in block.splitlines()]
    lines += [code for document in DOCUMENTS for code in re.findall(r"`(rnn-parity [^`]+)`", document.read_text())]
    return sorted({line.split("#")[0].strip() for line in lines if line.startswith("rnn-parity ")})


@pytest.mark.parametrize("command", commands())
def test_every_command_and_its_options_exist(command):
    _, name, *words = shlex.split(command.replace("\n", " "))
    found = typer.main.get_command(app).commands[name]
    options = {flag for parameter in found.params for flag in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("path", sorted(PROJECT.glob("config/*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_whole_and_named_in_a_document(path, monkeypatch):
    monkeypatch.setattr(devices, "find_cuda", lambda: devices.Cuda(9))
    assert make_grid(load_config(path)).jobs
    assert any(path.name in document.read_text() for document in [*DOCUMENTS, *PROJECT.glob("config/*.yaml")])


def test_the_configs_of_the_documents_are_valid():
    blocks = [yaml.safe_load(block) for block in fenced("yaml")]
    whole = [block for block in blocks if "candidates" in block]
    parts = [NEEDED | b for b in blocks if b not in whole]
    assert whole
    assert parts
    for config in whole + parts:
        make_grid(complete_config(config))


def pins(text):
    return dict(re.findall(r"""([A-Za-z][\w.-]*)(?:\[\w+\])?==([\w.]+)""", text))


def test_the_team_server_has_the_versions_that_are_pinned():
    server = pins((PROJECT / "docs/docker-compose.yaml").read_text())
    pinned = pins((PROJECT / "requirements.txt").read_text())
    assert set(server) == {"mlflow", "psycopg"}
    assert {name: pinned[name] for name in server} == server


def test_each_dependency_has_its_line():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in declared}
    table = README.partition("## Dependencies")[2]
    named = {name for row in re.findall(r"^\| ([a-z][\w, -]+) \|", table, re.MULTILINE) for name in row.split(", ")}
    assert named - {"package"} == names


def test_the_rates_that_are_told_are_those_of_the_kept_self_test():
    kept = rates.kept_rates(("gru",))
    totals, alarms = rates.totals(kept.detection), kept.false_alarms
    counts = [totals["judged"], totals["caught"], alarms["comparisons"], alarms["not_judged"]]
    for number in [f"{count.sum():,}" for count in counts]:
        assert number in TRUST
    assert f"raised {alarms['alarms'].sum()} false alarms, in two cases: one in float64, in which a right" in TRUST
    assert f"is {alarms['largest_ratio'].iloc[0]:.2f} times over its limit, and one in float32" in TRUST
    assert alarms.set_index("dtype")["cases_alarmed"].to_dict() == {
        "float64": 1,
        "float32": 1,
        "bfloat16": 0,
        "float16": 0,
    }
    for name, words in (("allclose", "calls {single:.0f} %"), ("assert_close", "{single:.1f} % and {half:.0f} %")):
        shares = 100 * alarms.set_index("dtype")[name] / alarms["comparisons"].to_numpy()
        half = shares[["bfloat16", "float16"]].mean()
        assert words.format(single=shares["float32"], half=half) in TRUST
        assert shares["float64"] == 0
        passed = totals[f"{name}_passes"].sum()
        assert f"`{name}` misses {passed}" in TRUST
        if name == "allclose":
            assert f"`allclose` calls {shares['float32']:.0f} % of all correct float32 results" in " ".join(
                README.split()
            )


def test_the_rates_of_the_criterion_are_those_of_the_kept_self_test():
    kept = rates.kept_rates(("gru",))
    totals, alarms = rates.totals(kept.detection), kept.false_alarms.set_index("dtype")
    said = " ".join((PROJECT / "docs/criterion.md").read_text().split())
    judged, caught = totals[["judged", "caught"]].sum()
    changed = "planted faults that changed anything that could be judged"
    assert f"Of {judged:,} {changed}, this criterion caught {caught:,}" in said
    not_judged = f"{alarms['not_judged'].sum():,} comparisons were not judged"
    assert alarms["cases_alarmed"].sum() == 2
    assert f"| this criterion | {alarms['alarms'].sum()} | in two cases; {not_judged} |" in said
    for name, digits in (("allclose", 0), ("assert_close", 1)):
        shares = 100 * alarms[name] / alarms["comparisons"]
        half = shares[["bfloat16", "float16"]].mean()
        assert f"{shares['float32']:.{digits}f} % in float32, {half:.0f} % in half precision |" in said
        assert f"| {alarms[name].sum():,} |" in said


@pytest.mark.parametrize(
    ("cell", "name"), [("gru", "GRU"), ("lstm", "LSTM"), ("gru_reset_before", "GRU, reset gate before the product")]
)
def test_the_rates_of_each_kind_are_those_of_the_kept_self_test(cell, name):
    kept = rates.kept_rates((cell,))
    assert kept.cases == rates.kept_rates(("gru",)).cases
    judged, caught = rates.totals(kept.detection)[["judged", "caught"]].sum()
    comparisons, raised = kept.false_alarms[["comparisons", "alarms"]].sum()
    assert f"| {name} | {caught:,} of {judged:,} | {raised} in {comparisons:,} comparisons |" in README
    if cell != "gru":
        accused = f"{raised} false alarms were raised" if raised else "no correct layer was accused"
        assert f"{caught:,} of {judged:,} faults were caught, and {accused} in {comparisons:,} comparisons" in TRUST


def test_the_error_rate_of_the_clock_is_that_of_the_kept_benchmark():
    kept = pd.read_csv(PROJECT / "reports/benchmarks/power.csv").set_index("what")
    wrong = kept.loc["a layer against itself called faster or slower"]
    assert wrong["note"].startswith("1 of 2000;")
    assert "called faster or slower once in 2,000 comparisons" in " ".join(README.split())
    said = " ".join((PROJECT / "docs/timing.md").read_text().split())
    assert f"once in 2,000 comparisons ({wrong['value']:.2f} %;" in said
    curve = pd.read_csv(PROJECT / "reports/benchmarks/power_curve.csv")
    at = {share: [f"{100 * row:.0f}" for row in rows["share"]] for share, rows in curve.groupby("repeated")}
    assert "call {1} and {2} % of the pairs slower, and rnn-parity none".format(*at[0]) in said
    assert "With 5 % more work, rnn-parity calls {} % slower, the others {} %".format(*at[0.05]) in said
    assert at[0][0] == "0"
    assert at[0.05][1] == at[0.05][2]


def test_the_gallery_shows_every_figure_of_the_kept_run():
    shown = re.findall(r"figures/(\w+)\.png", (PROJECT / "docs/gallery.md").read_text())
    assert sorted(shown) == sorted(path.stem for path in (PROJECT / "reports/reference/cpu/figures").glob("*.png"))


def test_the_answer_of_the_readme_is_that_of_the_kept_runs():
    kept = PROJECT / "reports/reference"
    answer = " ".join(README.partition("**The answer on a CPU:**")[2].partition("![")[0].split())
    equivalence = pd.read_parquet(kept / "cpu/equivalence.parquet")
    held = must_hold(equivalence)
    assert set(held["verdict"]) <= {"identical", "equivalent"}
    grid = make_grid(load_config(PROJECT / "config.yaml"))
    assert {case.case_id for case in grid.cases} == set(held["case_id"])
    cases = [case for case in grid.cases if case.cell == "gru"]
    assert f"in all {len(cases)} cases of the default grid, and with the same masks in both layers in the" in answer
    assert f"the {sum(case.draws_dropout for case in cases)} that draw dropout" in answer

    timing = pd.read_parquet(kept / "cpu/timing.parquet")
    steps = timing[(timing["phase"] == "step") & (timing["implementation"] == "stacking_gru")]
    faster, slower = (steps[steps["conclusion"] == word] for word in ("faster", "slower"))
    assert f"faster in {len(faster)} of the {len(cases)} cases, up to {faster['speedup'].max():.2f}×" in answer
    least = slower["speedup"].min()
    assert f"slower in {len(slower)}, down to {least:.2f}×. These {len(slower)} have a single time step." in answer
    assert set(slower["sequence_length"]) == {1}
    own_size = timing[(timing["sweep"] == "t2vec") & (timing["sequence_length"] == 30)].set_index(
        ["phase", "implementation"]
    )
    gained = own_size.loc[("step", "stacking_gru")]
    interval = f"{gained['speedup_ci_low']:.2f}–{gained['speedup_ci_high']:.2f}"
    assert f"a training step is {gained['conclusion']}: {gained['speedup']:.2f}× ({interval})" in answer
    memory = own_size.loc["inference", "peak_memory_bytes"]
    assert f"{memory['stacking_gru'] / memory['stacking_gru_cell']:.1f} times the memory" in answer

    lstm = timing[(timing["implementation"] == "stacking_lstm") & (timing["phase"] == "step")]
    long, short = (lstm.set_index("sequence_length").loc[steps, "speedup"] for steps in (32, 1))
    assert f"`nn.LSTM` is {long:.2f}× as fast as with the loop over `nn.LSTMCell`." in answer
    assert f"With a single time step it is slower: {short:.2f}×." in answer

    on_gpu = pd.read_parquet(kept / "gpu/timing.parquet").query("sweep == 't2vec' and not tf32")
    gpu = on_gpu[on_gpu["implementation"] == "stacking_gru"].set_index(["sequence_length", "phase"])
    step, single = gpu.loc[(30, "step")], gpu.loc[(1, "step"), "speedup"]
    interval = f"{step['speedup_ci_low']:.2f}–{step['speedup_ci_high']:.2f}"
    assert f"a training step is {step['speedup']:.2f}× as fast ({interval})" in answer
    assert f"inference {gpu.loc[(30, 'inference'), 'speedup']:.2f}×" in answer
    assert f"With a single time step, a training step is slower: {single:.2f}×." in answer
    whole = pd.read_parquet(kept / "gpu-decoder/timing.parquet").query("phase == 'train_step' and dtype == 'float32'")
    gained = whole.set_index("implementation").loc["stacking_gru"]
    interval = f"{gained['speedup_ci_low']:.2f}–{gained['speedup_ci_high']:.2f}"
    assert f"the whole t2vec model is {gained['speedup']:.2f}× as fast ({interval})" in answer
    held = must_hold(pd.read_parquet(kept / "gpu/equivalence.parquet"))
    failing = held[~held["verdict"].isin(["identical", "equivalent", "unsupported"])]
    assert set(failing["dtype"]) == {"float64", "float16"}
    assert f"{failing[failing['dtype'] == 'float64']['error_2'].max():.0e}".replace("e-0", "e-") in answer

    decoder = pd.read_parquet(kept / "cpu-decoder/timing.parquet")
    largest = decoder[(decoder["phase"] == "train_step") & (decoder["sweep"] == "longer")]
    speedup = largest.set_index("implementation").loc["stacking_gru", "speedup"]
    assert f"takes {1 - 1 / speedup:.0%} less time".replace("%", " %") in answer


def test_the_page_on_gpus_says_what_the_kept_runs_found():
    page, kept = " ".join((PROJECT / "docs/gpu.md").read_text().split()), PROJECT / "reports/reference"
    timing = pd.read_parquet(kept / "gpu/timing.parquet").query("sweep == 't2vec' and not tf32")
    for (steps, _), rows in timing.groupby(["sequence_length", "phase"]):
        gained = rows.set_index("implementation").loc["stacking_gru"]
        ours = f"{gained['median_s'] * 1e3:.2f} ms in place of"
        assert re.search(rf"\| {steps} \|[^\n]*{re.escape(ours)}[^|]*{gained['speedup']:.2f}×", page)
    ways = pd.read_parquet(kept / "gpu-decoder/attribution.parquet").query("dtype == 'float32'")
    for _, row in ways[ways["way"].isin(["both", "attention_once", "layer_replaced"])].iterrows():
        assert f"{row['speedup']:.2f}× ({row['speedup_ci_low']:.2f}–{row['speedup_ci_high']:.2f})" in page
    life = pd.read_parquet(kept / "gpu/life.parquet")
    assert set(life["verdict"]) == {"equivalent", "unsupported"}
    assert set((life["verdict"] == "equivalent").groupby([life["cell"], life["dtype"], life["tf32"]]).sum()) == {33}
    control = pd.concat(
        [pd.read_parquet(kept / name / "timing.parquet") for name in ("gpu", "gpu-loop", "gpu-decoder")]
    )
    away = (control[control["implementation"] == control["baseline"]]["control_ratio"] - 1).abs()
    assert f"Of {len(away)} comparisons of the loop with itself, {(away <= 0.05).sum()} were within 5 % of 1" in page


def test_the_life_is_documented_point_by_point_in_the_order_in_which_it_is_lived():
    rows = re.findall(r"^\| ([^|]+?) \|", (PROJECT / "docs/life.md").read_text(), re.MULTILINE)
    titles = [title.removesuffix(" (`--deep`)") for title in rows if title not in ("point", "---")]
    assert titles == [point.title for point in POINTS.values()]


@pytest.mark.slow
def test_the_commands_of_the_readme_for_a_layer_of_ones_own_do_what_they_say(tmp_path, monkeypatch):
    (tmp_path / "my_layer.py").write_text(
        "from torch import nn\n"
        "from rnn_parity.layers.stepwise import StackingGRUCellLoop as Current\n"
        "class FastGRU(nn.GRU): pass\n"
    )
    monkeypatch.chdir(tmp_path)
    lines = [line.split("#")[0].split() for line in README.splitlines() if line.startswith("rnn-parity check")]
    assert len(lines) == 3
    for _, *words in lines:
        ended = CliRunner().invoke(app, [*words, "--no-timing", "--no-capabilities"])
        assert ended.exit_code == 0, ended.output
        assert "yes" in ended.output.lower()


@pytest.mark.slow
def test_the_lines_of_python_in_the_documents_hold():
    api = (PROJECT / "docs/site/api.md").read_text()
    exec(re.search(r"^```python\n(.*?)^```", api, re.DOTALL | re.MULTILINE)[1], {})


def test_every_place_names_the_same_version():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert {project["version"], cited["version"], rnn_parity.__version__} == {project["version"]}
    assert f"## {project['version']}" in (PROJECT / "CHANGELOG.md").read_text()
    assert (PROJECT / "src/rnn_parity/py.typed").exists()
