# What was measured, shown in MLflow. A projection of results/: it can be made again at will.
import time

STARTED = time.time()
TRACKING_MODE = GRID.config["tracking"]["mode"] or "off"


# What died publishes nothing by itself, and with `at_end` neither does what was measured beside it.
onerror:
    if TRACKING_MODE != "off" and Path("results/tracking.json").exists():
        subprocess.run(
            [sys.executable, "-m", "rnn_parity", "publish-unfinished", "--json", json.dumps(GRID.config)]
            + ["--results", "results", "--logs", "logs", "--since", str(STARTED)],
        )


rule publish_job:
    input:
        tracking=rules.tracking_store.output[0],
        environment=rules.environment.output[0],
        equivalence=rules.equivalence.output[0],
        timing=rules.timing.output.rows,
        training=training_of,
    output:
        "results/published/{sweep}/{job}.json",
    log:
        "logs/publish/{sweep}/{job}.log",
    priority: int(TRACKING_MODE == "each_job")  # before the next measurement, or after the last
    resources:
        tracking=1,
    params:
        sources=sources("tracking"),
        run=lambda wildcards: GRID.publish_request(wildcards.sweep),
        training=lambda wildcards, input: f"--training {input.training}" if input.training else "",
    message:
        "Publishing {wildcards.sweep} {wildcards.job}"
    shell:
        "python -m rnn_parity publish --run {params.run:q} --tracking {input.tracking} --equivalence {input.equivalence}"
        " --timing {input.timing} {params.training} --environment {input.environment} --output {output} 2> {log}"


rule publish_report:
    input:
        "reports/report.html",
        "reports/tables",
        config=rules.experiment.output[0],
        tracking=rules.tracking_store.output[0],
        environment=rules.environment.output[0],
    output:
        "results/published/report.json",
    log:
        "logs/publish/report.log",
    resources:
        tracking=1,
    params:
        sources=sources("tracking"),
    shell:
        "python -m rnn_parity publish-report --config {input.config} --tracking {input.tracking}"
        " --environment {input.environment} --reports reports --output {output} 2> {log}"


rule publish:
    input:
        per_job(rules.publish_job.output[0]),
        rules.publish_report.output,
    localrule: True
