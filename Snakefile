# rnn-parity: may I replace this recurrent layer by that one, when not, and what do I gain?
#
#   snakemake --cores 8    the whole of it
#   snakemake -n           what would be done
#   snakemake gate         exit 1 if a case that is expected to hold does not
#   snakemake publish      try again what a dead MLflow server did not take
import sys
from pathlib import Path

from snakemake.utils import min_version

sys.path.insert(0, str(Path(workflow.basedir) / "src"))  # the sources beside this file, whatever is installed

from rnn_parity.experiment.errors import InputError
from rnn_parity_t2vec.entries import FIGURES as DECODER_FIGURES
from rnn_parity_t2vec.entries import TABLES as DECODER_TABLES
from rnn_parity.report.figures import FIGURES
from rnn_parity.experiment.grid import make_grid
from rnn_parity.commands.processes import RUN_VARIABLE, lock_working_folder

min_version("9.0")


# Used only with `--software-deployment-method apptainer`: docker build -t rnn-parity -f workflow/Dockerfile .
container: "docker-daemon://rnn-parity:latest"


# `--configfile other.yaml` replaces this one: merged, a small run would inherit every sweep.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/setup.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/trust.smk"
include: "workflow/rules/publish.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/decoder.smk"


rule all:
    default_target: True
    input:
        rules.report.output,
        rules.tables.output,
        rules.publish.input if TRACKING_MODE != "off" else [],
