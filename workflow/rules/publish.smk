# What was measured, shown in MLflow. A projection of results/: it can be made again at will.


# The config is there before any table is, and is no input: a change of it that a job does not see publishes nothing again.
rule publish_job:
    input:
        store=rules.tracking_store.output[0],
        environment=rules.environment.output[0],
        equivalence=rules.equivalence.output.rows,
        timing=rules.timing.output[0],
        extras=extras_shown,
    output:
        RESULTS.published(),
    log:
        "logs/publish/{sweep}/{job}.log",
    priority: FIRST if TRACKING_MODE == "each_job" else -1  # before the next measurement, or after the last
    localrule: True
    resources:
        tracking=1,
    params:
        sources=sources("rnn_parity.tracking.*"),
        run=lambda wildcards: GRID.publish_request(job_of(wildcards)),
        attempt=lambda wildcards: attempt(RESULTS.published(**wildcards)),
    message:
        "Publishing {wildcards.sweep} {wildcards.job}"
    shell:
        "logged {log} python -m rnn_parity publish --run {params.run:q} --name {wildcards.sweep}/{wildcards.job}"
        " --attempt {params.attempt} --results results"


rule publish_report:
    input:
        rules.report.output,
        config=rules.experiment.output[0],
        store=rules.tracking_store.output[0],
        environment=rules.environment.output[0],
    output:
        RESULTS.published_report,
    log:
        "logs/publish/report.log",
    localrule: True
    resources:
        tracking=1,
    params:
        sources=sources("rnn_parity.tracking.*"),
        attempt=lambda wildcards: attempt(RESULTS.published_report),
    shell:
        "logged {log} python -m rnn_parity publish --reports reports --attempt {params.attempt} --results results"


rule publish:
    input:
        MARKERS,
        rules.publish_report.output,
    localrule: True
