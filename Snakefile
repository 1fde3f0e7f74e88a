# rnn-parity: may I replace this recurrent layer with that one? If not, why not? And what would I gain?
#
#   snakemake --cores 8    the whole of it
#   snakemake -n           what would be done
#   snakemake gate         exit 1 if a case that is expected to hold does not; a failed job is 3, bad input 2
#   snakemake publish      try again what a dead MLflow server did not take
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")
sys.path.insert(0, str(Path(workflow.basedir) / "src"))  # the sources beside this file, whatever is installed

from rnn_parity.commands.ending import ending_in_3

# `--configfile other.yaml` replaces this one: merged, a small run would inherit every sweep.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


with ending_in_3():  # Snakemake would end with 1, which is the gate's

    include: "workflow/rules/common.smk"
    include: "workflow/rules/setup.smk"
    include: "workflow/rules/measure.smk"
    include: "workflow/rules/trust.smk"
    include: "workflow/rules/report.smk"
    include: "workflow/rules/publish.smk"


# One run at a time in a folder. The system lets go of this lock however a run ends: a killed one needs no `--unlock`.
onstart:
    try:
        lock_working_folder(Path(".snakemake"))
    except InputError as error:
        refuse(error)
    end_orphans(Path.cwd(), lambda line: print(line, file=sys.stderr))
    keep_config()
    print(f"rnn-parity {__version__}, sources in {SOURCES}", file=sys.stderr)
    if workflow.local_exec:  # on a cluster nobody knows how many jobs run at a time
        planned = list(measuring_jobs())
        tell_time_left(planned, workflow.cores)
        if planned and not workflow.deployment_settings.deployment_method:  # a container's jobs are to stay in it
            start_server()


onsuccess:
    tell_not_published()
    tell_answer()


# What died publishes nothing by itself, and with `at_end` neither does what was measured beside it.
onerror:
    publish_unfinished(log)
    tell_not_published()
    if number := ending_signal(log):
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + number)
    if gate_is_shut():
        sys.exit(int(os.environ.get(GATE_VARIABLE, "1")))
    print(f"fault: a job failed; its log is above and in {Path('logs').absolute()}", file=sys.stderr)
    sys.exit(3)


rule all:
    default_target: True
    input:
        [RESULTS.sweep(sweep) for sweep in GRID.config["sweeps"]],
        rules.report.output,
        rules.publish.input if TRACKING_MODE != "off" else [],
