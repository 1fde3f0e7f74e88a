# Once a run: the experiment as it is run, the machine it runs on, the place where it is shown.


rule experiment:
    output:
        "results/config.json",
    log:
        "logs/experiment.log",
    localrule: True
    params:
        config=json.dumps(GRID.config),
    shell:
        "python -m rnn_parity config --json {params.config:q} --output {output} 2> {log}"


rule environment:
    input:
        sources("environment", "execution"),
        config=ancient(rules.experiment.output[0]),
    output:
        "results/environment.json",
    log:
        "logs/environment.log",
    threads: workflow.cores
    resources:
        gpu=int("cuda" in GRID.config["device"]),
    params:
        devices=GRID.config["device"],
        dtypes=sorted({case.dtype for case in GRID.cases}),
    shell:
        "python -m rnn_parity environment --config {input.config} --output {output} 2> {log}"


rule tracking_store:
    input:
        config=ancient(rules.experiment.output[0]),
    output:
        "results/tracking_store.json",
    log:
        "logs/tracking_store.log",
    localrule: True
    params:
        uri=STORE,
    shell:
        "python -m rnn_parity store --config {input.config} --output {output} > {log} 2>&1"
