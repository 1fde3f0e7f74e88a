# The grid, and what the rules share. Reading this changes no file, and starts no process but the one that tries layers
# of the user's own.
import functools
import getpass
import hashlib
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rnn_parity import __version__
from rnn_parity.commands.job_server import start_server
from rnn_parity.commands.processes import (
    GATE_VARIABLE,
    RUN_VARIABLE,
    SOURCES,
    SOURCES_VARIABLE,
    lock_working_folder,
    require_own_snakefile,
)
from rnn_parity.commands.slurm import end_orphans
from rnn_parity.commands.time_left import Planned, tell_time_left
from rnn_parity.experiment.tracking_uri import HEAD_VARIABLE, here, resolve_uri
from rnn_parity.experiment.config_files import read_config
from rnn_parity.experiment.errors import InputError
from rnn_parity.experiment.grid import make_grid
from rnn_parity.experiment.results import Results
from rnn_parity.experiment.sources import digest
from rnn_parity.experiment.names import CELLS, REGISTRY
from rnn_parity.experiment.variables import environment_variables
from rnn_parity.experiment.workloads import workloads_of
from rnn_parity.report.figures import FIGURES, workload_figures

# `logged LOG COMMAND …`: what a job says goes into its log, and if it dies how it ended, for who was killed says nothing.
shell.prefix(
    "set -euo pipefail;"
    ' logged() {{ local log="$1"; shift; "$@" 2> "$log" || {{ code=$?; echo "exit code $code" >> "$log"; exit $code; }}; }};'
)


def refuse(message):
    """End with one line: bad input is no fault of the workflow, and gets no traceback."""
    sys.stderr.write(f"error: {message}\n")  # in one piece: the logger writes there too, from a thread
    sys.exit(2)


RESULTS = Results()
try:
    require_own_snakefile(Path(workflow.basedir))
    asked = read_config(workflow.configfiles, workflow.config_settings.config_args)
    GRID = make_grid(asked, RESULTS.cuda)  # that of another machine, where the results were brought from it
    TRACKING_MODE = GRID.config["tracking"]["mode"]
    if TRACKING_MODE != "off":
        resolve_uri(GRID.config["tracking"]["uri"], Path.cwd())
except InputError as error:
    refuse(error)

# The rules' python is the one that runs Snakemake, with the sources beside the Snakefile; and no job outlives this run.
for variable, folder in {"PATH": Path(sys.executable).parent, "PYTHONPATH": Path(workflow.basedir) / "src"}.items():
    os.environ[variable] = os.pathsep.join(filter(None, [str(folder), os.environ.get(variable)]))
os.environ.update({RUN_VARIABLE: str(os.getpid()), SOURCES_VARIABLE: str(SOURCES)})
if workflow.is_main_process:
    os.environ[HEAD_VARIABLE] = here()

try:
    getpass.getuser()
except (KeyError, OSError):  # a number without a name, as in a container: Snakemake would end with a traceback
    os.environ.update(LOGNAME=str(os.getuid()))


def numbers(case):
    """How many numbers the inputs and states of a case hold, about."""
    return math.prod((case.input_size, case.hidden_size, case.num_layers, case.sequence_length, case.batch_size))


# Layers of the user's own are tried before any job starts; in a process, since they may import torch or anything else.
RUN_AS = {}  # name of such a layer to how it is run, in words, where it is not called as PyTorch's are
KINDS = {kind: [compared["baseline"], *compared["candidates"]] for kind, compared in GRID.config["cells"].items()}
if any(":" in name for kind, names in KINDS.items() for name in (kind, *names)) and workflow.is_main_process:
    smallest = {kind: asdict(min((case for case in GRID.cases if case.cell == kind), key=numbers)) for kind in KINDS}
    named = (f"{kind}={name}" for kind in KINDS for name in KINDS[kind])
    tried = subprocess.run(
        [sys.executable, "-m", "rnn_parity", "validate", "--cases", json.dumps(smallest), *named],
        capture_output=True,
        text=True,
    )
    if tried.returncode != 0:
        sys.stderr.write(tried.stderr)
        sys.exit(tried.returncode)
    RUN_AS = dict(re.findall(r"^(.+): ok \((.+)\)$", tried.stdout, re.MULTILINE))

STARTED = time.time()
CONFIG = f"{json.dumps(GRID.config, indent=2)}\n"
WORKLOADS = workloads_of(GRID.config)
JOBS = {(job.sweep, job.name): job for job in GRID.jobs}
NAMED = [{**CELLS, **REGISTRY}.get(name, name) for kind, names in KINDS.items() for name in (kind, *names)]
LAYER_MODULES = sorted({path.partition(":")[0] for path in NAMED})
# Another tracking server is published to anew. Only a digest, since the URI may hold a password.
TRACKING_STORE = hashlib.sha256(
    f"{GRID.config['tracking']['uri']} {os.environ.get('MLFLOW_TRACKING_URI')}".encode()
).hexdigest()[:12]
if GRID.config["tracking"]["uri"]:
    os.environ.update(MLFLOW_TRACKING_URI=GRID.config["tracking"]["uri"])  # for the rule that makes the store
LIMIT_S = math.ceil(GRID.config["case_limit_s"])  # a resource: another limit measures nothing again
VARIABLES = json.dumps(environment_variables())
FIRST = 1_000_000  # the priority of what need not be alone on the machine, before any timing


@functools.cache  # asked for by every job
def sources(*modules, files=(), without=()):
    """A digest of the code that computes a result. As a parameter it lets an edit run again what it touches, no more.

    One parameter in place of some dozen input files also lets Snakemake plan ten thousand cases in seconds.
    """
    return digest(modules, [SOURCES.parent, Path.cwd()], [SOURCES / file for file in files], without)


def variables(wildcards):
    """The variables under which a result is measured. A function: Snakemake takes {words} in a text for wildcards."""
    return VARIABLES


def job_of(wildcards):
    return JOBS[wildcards.sweep, wildcards.job]


def jobs_of(wildcards):
    return [job for job in GRID.jobs if job.sweep == wildcards.sweep]


def gpus(wildcards):
    device = job_of(wildcards).device if "job" in wildcards.keys() else wildcards.device
    return int(device == "cuda")


def report_sources(kind):
    """A digest of what the workloads of the grid bring to the report: `plot` or `section`, and its templates."""
    modules = [getattr(entry, kind).partition(":")[0] for entry in WORKLOADS if getattr(entry, kind)]
    places = [Path(importlib.util.find_spec(module).origin).parent / "templates" for module in modules]
    return sources(*modules, files=tuple(place for place in places if place.is_dir()))


def workload_sources(*without):
    """A digest of the code of a job's workload: it serves comparison and timing, each without the other."""

    def digest_of(wildcards):
        entry = job_of(wildcards).entry
        computed = [extra.compute for name, extra in entry.extras.items() if name == wildcards.get("extra")]
        return sources(*(path.partition(":")[0] for path in [entry.factory, *computed]), without=without)

    return digest_of


NOT_TIMED = ("rnn_parity.timing",)
NOT_COMPARED = ("rnn_parity.compare", "rnn_parity.cells", "rnn_parity.dropout", "rnn_parity.trust")


def extras_shown(wildcards):
    """The extra tables of a job that have values per step to show in MLflow."""
    known = job_of(wildcards).entry.extras
    return [RESULTS.of_job(name, **wildcards) for name in GRID.extras_of(wildcards.sweep) if known[name].histories]


def data_of(wildcards):
    """The data file that a job's workload reads, if its settings name one."""
    settings = GRID.config["workloads"].get(job_of(wildcards).entry.name, {})
    return [settings["file"]] if settings.get("file") else []


def cores_of(job, timed):
    """All cores of this machine for whatever takes times, unless the config lets others run beside."""
    return workflow.cores if timed and GRID.config["timing"]["exclusive"] else job.threads


def cpus(wildcards):
    """What a job computes with. A cluster is asked for this, not for the cores of the machine that submits."""
    return job_of(wildcards).threads


def whole_node(timed):
    """The option of Slurm by which whatever takes times has a node for itself; its cores are those of that node."""
    return "--exclusive" if timed and GRID.config["timing"]["exclusive"] else ""


def extra_of(wildcards):
    return job_of(wildcards).entry.extras[wildcards.extra]


def attempt(marker):
    """Goes up while a server took nothing. As a parameter it makes the next run try again."""
    last = json.loads(marker.read_text()) if marker.exists() else {"published": True}
    return last.get("attempt", 0) + (not last["published"])


def keep_config():
    """Write the config before any job: what is published reads it, also where only some targets are asked for.

    Where there is none yet, the first job makes it. Snakemake would warn of a file that is there before its job.
    """
    kept = RESULTS.config.read_text(encoding="utf-8") if RESULTS.config.exists() else None
    is_made = kept is None and any(job.rule.name == "experiment" for job in workflow.dag.needrun_jobs())
    if kept != CONFIG and not is_made:
        RESULTS.config.parent.mkdir(exist_ok=True)
        RESULTS.config.write_text(CONFIG, encoding="utf-8")


def gate_is_shut():
    """Whether what failed in this run is the gate, and not the gate's own code."""
    said = Path("logs/gate.log")
    return said.exists() and said.stat().st_mtime >= STARTED and "gate: " in said.read_text(encoding="utf-8")


def measuring_jobs():
    """The jobs of this run that measure, with what tells how long they take: `rnn_parity.commands.time_left`."""
    timing = GRID.config["timing"]
    expected_s = 1.5 * len(timing["phases"]) * timing["max_seconds"]  # of a case: rounds, and half as long around them
    for job in workflow.dag.needrun_jobs():
        if job.rule.name in ("equivalence", "timing", "extra", "device"):
            kind = job.wildcards.get("extra") or job.wildcards.get("table") or job.rule.name
            cases = len(job_of(job.wildcards).cases) if "job" in job.wildcards.keys() else 1
            known = expected_s * cases if kind == "timing" else None
            done = functools.partial(workflow.dag.finished, job)
            yield Planned(kind, cases, job.threads >= workflow.cores, Path(job.benchmark), done, known)


def tell_not_published():
    """Say on the terminal what no server took: it costs no run its exit code."""
    if said := RESULTS.not_published(GRID, since=STARTED):
        print(f"warning: {said}", file=sys.stderr)


def tell_answer():
    """Print the answer in two lines below all else, and where the report is; without "×" in a terminal, a "?" for it."""
    if any(job.rule.name == "report" for job in workflow.dag.jobs):  # else it may be of an earlier run
        answer = Path("reports/answer.txt")
        sys.stdout.reconfigure(errors="replace")
        print(answer.read_text(encoding="utf-8"), end="")
        print(f"The report: {Path('reports/report.html').absolute()}")


def ending_signal(run_logs):
    """The signal that ended the run, None for none; Snakemake says so only in its log."""
    said = "".join(Path(path).read_text(errors="replace") for path in run_logs)
    words = {
        signal.SIGINT: "Terminating processes on user request",
        signal.SIGTERM: "Will exit after finishing currently",
    }
    return next((number for number, begin in words.items() if begin in said), None)


def publish_unfinished(run_logs):
    """Show what this run leaves: the cases of jobs that died, and why; and those that nobody published."""
    if TRACKING_MODE != "off" and RESULTS.store.exists():
        command = [sys.executable, "-m", "rnn_parity", "publish-unfinished", "--results", str(RESULTS.folder)]
        subprocess.run(
            [*command, "--logs", "logs", "--since", str(STARTED), *(f"--run-log={path}" for path in run_logs)]
        )


wildcard_constraints:
    sweep="[^/]+",
    job="[^/]+",
    device="cpu|cuda",
