# Whether the answer can be trusted, and what it leaves out: the check tried on itself, and what each layer can do.
DEVICE_SOURCES = {
    "self_test": sources("rnn_parity.trust.run"),
    "power": sources("rnn_parity.trust.run"),
    "life": sources("rnn_parity.life.live", *LAYER_MODULES),
    "capabilities": sources("rnn_parity.capabilities.probing", *LAYER_MODULES),
}


rule device:
    output:
        RESULTS.of_device("{table}"),
    log:
        "logs/{table}/{device}.log",
    benchmark:
        RESULTS.benchmark("{table}", "{device}")
    wildcard_constraints:
        table="|".join(DEVICE_SOURCES),
    priority: FIRST
    resources:
        gpu=gpus,
        limit_s=LIMIT_S,
        cpus_per_task=1,
    params:
        variables=variables,
        sources=lambda wildcards: DEVICE_SOURCES[wildcards.table],
        settings=lambda wildcards: GRID.device_request(wildcards.table, wildcards.device),
    message:
        "Making {wildcards.table} of {wildcards.device}"
    shell:
        "logged {log} python -m rnn_parity device {wildcards.table} --device {wildcards.device}"
        " --settings {params.settings:q} --results results --limit {resources.limit_s}"
