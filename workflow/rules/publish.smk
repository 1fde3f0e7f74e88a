# What was measured, shown in MLflow. A projection of results/: it can be made again at will.


rule publish_job:
    input:
        sources("tracking"),
        config=ancient(rules.experiment.output[0]),
        store=ancient(rules.tracking_store.output[0]),
        environment=ancient(rules.environment.output[0]),
        equivalence=rules.equivalence.output[0],
        timing=rules.timing.output.rows,
    output:
        "results/published/{sweep}/{job}.json",
    log:
        "logs/publish/{sweep}/{job}.log",
    resources:
        tracking=1,
    params:
        study=GRID.config["study"],
        uri=STORE,
    message:
        "Publishing {wildcards.sweep} {wildcards.job}"
    shell:
        "python -m rnn_parity publish --config {input.config} --sweep {wildcards.sweep} --equivalence {input.equivalence}"
        " --timing {input.timing} --environment {input.environment} --output {output} 2> {log}"


rule publish_report:
    input:
        sources("tracking"),
        "reports/report.html",
        "reports/tables",
        config="results/config.json",
        environment="results/environment.json",
    output:
        "results/published/report.json",
    log:
        "logs/publish/report.log",
    resources:
        tracking=1,
    params:
        uri=STORE,
    shell:
        "python -m rnn_parity publish-report --config {input.config} --environment {input.environment}"
        " --reports reports --output {output} 2> {log}"


rule publish:
    input:
        per_job(rules.publish_job.output[0]),
        rules.publish_report.output,
    localrule: True
