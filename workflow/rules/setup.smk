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
    output:
        "results/environment.json",
    log:
        "logs/environment.log",
    priority: 1  # before the first timing: every run that is published says on what machine
    threads: workflow.cores
    resources:
        gpu=int("cuda" in GRID.config["device"]),
    params:
        sources=sources("timing/environment", "timing/peaks", "layers/running"),
        settings=GRID.environment_request(),
    shell:
        "python -m rnn_parity environment --settings {params.settings:q} --output {output} 2> {log}"


rule tracking_store:
    output:
        "results/tracking.json",
    log:
        "logs/tracking_store.log",
    priority: 1
    localrule: True
    params:
        settings=STORE_SETTINGS,
        store=STORE,
    shell:
        "python -m rnn_parity store {params.settings:q} --output {output} > {log} 2>&1"
