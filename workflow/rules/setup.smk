# Once a run: the experiment as it is run, the machine it runs on, the place where it is shown.


rule experiment:
    output:
        RESULTS.config,
    log:
        "logs/experiment.log",
    priority: FIRST
    localrule: True
    params:
        config=lambda wildcards: CONFIG,  # a function: Snakemake takes {words} in a text for wildcards
    shell:
        "printf %s {params.config:q} > {output} 2> {log}"


rule environment:
    output:
        RESULTS.environment,
    log:
        "logs/environment.log",
    benchmark:
        RESULTS.benchmark("environment")
    priority: FIRST  # every run that is published says on what machine
    threads: workflow.cores
    resources:
        gpu=int("cuda" in GRID.config["device"]),
        cpus_per_task=max(job.threads for job in GRID.jobs),
        slurm_extra=whole_node(timed=True),
    params:
        variables=variables,
        sources=sources("rnn_parity.timing.environment"),
        settings=GRID.environment_request(),
    shell:
        "logged {log} python -m rnn_parity environment --settings {params.settings:q} --variables {params.variables:q}"
        " --output {output}"


rule tracking_store:
    output:
        RESULTS.store,
    log:
        "logs/tracking_store.log",
    priority: FIRST
    localrule: True
    params:
        store=TRACKING_STORE,
    shell:
        "logged {log} python -m rnn_parity store > {output}"
