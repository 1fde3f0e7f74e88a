"""The real pipeline on a real Slurm of three nodes: what it asks for, and what it survives."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress

import pandas as pd
import pytest

from cluster import CONFIG, NODES, Cluster, is_installed
from conftest import missing
from pipeline import TINY, runs, write_config
from project import PROJECT, copy_project
from rnn_parity.experiment.grid import make_grid
from tracked import query

pytestmark = [pytest.mark.workflow, pytest.mark.slurm]

PLAIN = {
    **TINY,
    "sweeps": {
        "article": {"sequence_length": [1, 2], "seeds": [1215], "regimes": ["eval"]},
        "wide": {"hidden_size": 8, "sequence_length": 2, "threads": 2, "regimes": ["eval"]},
    },
}
TROUBLED = {
    **TINY,
    "candidates": ["my_layers:OnCluster"],
    "sweeps": {"mine": {"hidden_size": [8, 9, 10, 11], "sequence_length": 2, "regimes": ["eval"]}},
    "timing": {**TINY["timing"], "phases": ["inference"], "exclusive": False},
}
HELD_UP = {**TROUBLED, "sweeps": {"mine": {**TROUBLED["sweeps"]["mine"], "hidden_size": [8, 11]}}}


HEADS = []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three nodes; without such packages, and beside another Slurm, there are none."""
    if not is_installed() or importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        missing("Slurm (slurm-wlm, munge, snakemake-executor-plugin-slurm, and root to start them)")
    if CONFIG.exists():
        missing(f"no other Slurm, which {CONFIG} is of,")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        for head in HEADS:
            head.kill()
            head.wait()
        cluster.stop()


def start(folder, *resources):
    """Start Snakemake as a person does on the login node, with less patience and on smaller nodes than a profile's."""
    asked = ["slurm_partition=main", "mem_mb=1400", "runtime=10", *resources]
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--configfile", "own.yaml"]
    command += ["--slurm-init-seconds-before-status-checks", "3", "--default-resources", *asked]
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with (folder / "run.log").open("w") as log:
        head = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=inherited)
    head.doomed_at = time.monotonic() + 600
    HEADS.append(head)
    return head


def ended(head):
    """Whether a run has ended, after a moment; one that never does is killed."""
    with suppress(subprocess.TimeoutExpired):
        head.wait(0.5)
    if time.monotonic() > head.doomed_at:
        head.kill()
    return head.poll() is not None


def said(folder):
    return (folder / "run.log").read_text()


def with_layer(folder, config):
    """A project that compares `OnCluster`, which makes trouble."""
    copy_project(folder, own_lock=True)
    (folder / "my_layers.py").write_text((PROJECT / "tests/faults.py").read_text())
    (folder / "trouble").touch()
    write_config(folder, config, "own.yaml")
    return folder


def measured(folder):
    """When the tables of each job were written."""
    tables = [*(folder / "results/equivalence").rglob("*.parquet"), *(folder / "results/timing").rglob("*.parquet")]
    return {path: path.stat().st_mtime_ns for path in tables}


@pytest.fixture(scope="module")
def swept(cluster, tmp_path_factory):
    """A finished run: its folder, its jobs, and what ran where, looked at again and again."""
    folder = copy_project(tmp_path_factory.mktemp("swept") / "project", own_lock=True)
    write_config(folder, PLAIN, "own.yaml")
    before, seen = {job["id"] for job in cluster.jobs()}, []
    head = start(folder, "constraint=old")
    while not ended(head):
        seen.append([job for job in cluster.jobs() if job["state"] == "RUNNING"])
    assert head.returncode == 0, said(folder)
    return folder, [job for job in cluster.jobs() if job["id"] not in before], seen


def of_rule(jobs, name):
    return [job for job in jobs if job["comment"].startswith(f"rule_{name}")]


def test_a_sweep_on_a_cluster_is_whole(swept):
    folder, *_ = swept
    cases = {case.case_id for case in make_grid(PLAIN).cases}
    for name in ("equivalence", "timing"):
        assert set(pd.read_parquet(folder / f"results/{name}.parquet")["case_id"]) == cases
    assert list(runs(folder)["status"]) == ["FINISHED"] * (len(cases) + 1)
    assert (folder / "reports/report.html").exists()


def test_what_is_timed_has_a_node_for_itself(swept):
    folder, jobs, seen = swept
    timed = [*of_rule(jobs, "timing"), *of_rule(jobs, "environment")]
    assert len(timed) == 3
    assert {job["shared"] for job in timed} == {"NO"}
    assert all(f"CPUs={job['cpus']}" in NODES[job["node"]] for job in timed)
    ids = {job["id"] for job in timed}
    for running in seen:
        beside = Counter(job["node"] for job in running)
        assert all(beside[job["node"]] == 1 for job in running if job["id"] in ids)
    assert any(ids & {job["id"] for job in running} for running in seen)
    timing = pd.read_parquet(folder / "results/timing.parquet")
    assert timing["exclusive"].all()
    assert set(timing["machine"]) == {"old"}


def test_others_ask_for_the_cores_that_they_compute_with_whatever_the_head_has(swept):
    _, jobs, _ = swept
    assert {(job["cpus"], job["shared"]) for job in of_rule(jobs, "equivalence")} == {("1", "OK"), ("2", "OK")}


def test_nothing_small_is_submitted_and_nothing_heavy_is_not(swept):
    _, jobs, _ = swept
    kinds = Counter(job["comment"].removeprefix("rule_").partition("_wildcards")[0] for job in jobs)
    assert kinds == {"equivalence": 2, "timing": 2, "environment": 1, "report_collect_figures_report": 1}


def test_no_job_is_warned_of_and_logs_are_where_logs_are(swept):
    folder, jobs, _ = swept
    assert len(jobs) > 2
    for words in ("No wall time information", "No job memory information"):
        assert words not in said(folder)
    assert said(folder).count("No SLURM account given") <= 2  # as many as submit at once
    assert said(folder).count(f"(log: {folder}/logs/slurm/") == len(jobs)
    assert not (folder / ".snakemake/slurm_logs").exists()


def test_nodes_that_are_unlike_are_kept_apart(swept, cluster, tmp_path):
    folder = shutil.copytree(swept[0], tmp_path / "project", ignore=shutil.ignore_patterns("mlflow.db-*"))
    article = {**PLAIN["sweeps"]["article"], "hidden_size": [10, 12]}
    write_config(folder, {**PLAIN, "sweeps": {**PLAIN["sweeps"], "article": article}}, "own.yaml")
    assert start(folder, "constraint=new").wait(600) == 0, said(folder)
    timing = pd.read_parquet(folder / "results/timing.parquet")
    assert set(zip(timing["hidden_size"], timing["machine"], strict=True)) == {(8, "old"), (10, "old"), (12, "new")}
    report = (folder / "reports/report.md").read_text()
    kinds = dict(re.findall(r"^\| machine \d \| (\w+): (\d) cases timed", report, re.MULTILINE))
    assert kinds == {"old": "3", "new": "2"}
    assert "Not all cases were timed on one kind of machine" in report


def test_what_slurm_ends_is_shown_with_its_word_and_the_rest_goes_on(cluster, tmp_path):
    folder = with_layer(tmp_path / "project", TROUBLED)
    before = {job["id"] for job in cluster.jobs()}
    head = start(folder)

    def mine(size, state="RUNNING"):
        own = [job for job in cluster.jobs() if job["id"] not in before and f"-h{size}-" in job["comment"]]
        return [job["id"] for job in own if job["state"] == state]

    cluster.wait_for(lambda: mine(8))
    cluster.kill("slurmctld", signal.SIGTERM)
    cluster.start_controller()
    while not ended(head):  # both jobs of a size, whenever they begin; one may end before Slurm is asked
        for job in mine(8):
            cluster.run("scancel", job, check=False)
        for job in mine(10):
            cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=1", check=False)
    assert head.returncode == 3, said(folder)
    shown = "select r.name, r.status, t.value from runs r join tags t using (run_uuid) where t.key = '{}'"
    reasons = {name: (status, reason) for name, status, reason in query(folder / "mlflow.db", shown.format("failure"))}
    assert set(reasons) == {"mine H=8", "mine H=9", "mine H=10"}
    assert {status for status, _ in reasons.values()} == {"KILLED"}
    assert "was killed by Slurm: CANCELLED" in reasons["mine H=8"][1]
    assert re.search("[Ee]xceeded (job )?memory limit", reasons["mine H=9"][1])  # Slurm's two lines race to its log
    assert "was killed by Slurm: TIMEOUT" in reasons["mine H=10"][1]
    verdicts = {name: verdict for name, _, verdict in query(folder / "mlflow.db", shown.format("verdict"))}
    assert [verdicts[f"mine H={size}"] for size in (8, 9, 10)] == ["not judged"] * 3
    assert verdicts["mine H=11"] in ("identical", "equivalent")

    done = {path: at for path, at in measured(folder).items() if "-h11-" in path.name}
    assert len(done) == 2
    (folder / "trouble").unlink()
    assert start(folder).wait(600) == 0, said(folder)
    assert done.items() <= measured(folder).items()
    assert list(runs(folder)["status"]) == ["FINISHED"] * 5
    timing = pd.read_parquet(folder / "results/timing.parquet")
    assert not timing["exclusive"].any()
    shared = {job["shared"] for job in of_rule(cluster.jobs(), "timing") if job["id"] not in before}
    assert {"OK"} <= shared


def test_a_dead_head_and_a_dead_node_cost_nothing_that_was_done(cluster, tmp_path):
    folder = with_layer(tmp_path / "project", HELD_UP)
    before = {job["id"] for job in cluster.jobs()}

    def held_up():
        """The jobs of the run at hand in which the layer waits."""
        own = [job for job in cluster.jobs() if job["id"] not in before and "-h8-" in job["comment"]]
        return [job for job in own if job["state"] == "RUNNING" and (folder / f"waits-{job['id']}").exists()]

    head = start(folder)
    cluster.wait_for(lambda: len(held_up()) == 2 and len(list(folder.rglob("results/published/mine/*-h11-*"))) == 1)
    head.kill()
    head.wait()
    dead, done = held_up(), measured(folder)
    assert len(dead) == 2

    def held_up_again():
        now = {job["id"] for job in held_up()}  # asked once: between two answers the dead ones may be cancelled
        return len(now) == 2 and not now & {job["id"] for job in dead}

    head = start(folder)
    cluster.wait_for(held_up_again)
    assert "cancels 2 jobs of a dead run of this folder" in said(folder)
    doomed = held_up()[0]

    def state():
        return next((job["state"], job["node"]) for job in cluster.jobs() if job["id"] == doomed["id"])

    cluster.kill(doomed["node"])
    cluster.wait_for(lambda: state()[0] == "PENDING")
    cluster.run("scontrol", "update", f"JobId={doomed['id']}", "StartTime=now")  # Slurm would wait for two minutes
    cluster.wait_for(lambda: state()[0] == "RUNNING")
    assert state()[1] != doomed["node"]
    (folder / "trouble").unlink()
    assert head.wait(600) == 0, said(folder)
    assert {path for path in done if "-h11-" in path.name}
    assert all(measured(folder)[path] == at for path, at in done.items() if "-h11-" in path.name)
    assert list(runs(folder)["status"]) == ["FINISHED"] * 3
    cluster.start_node(doomed["node"])
