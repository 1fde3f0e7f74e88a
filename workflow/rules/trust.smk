# Whether the answer can be trusted, and what it leaves out: the check tried on itself, and what each layer can do.


rule findings:
    output:
        RESULTS.of_device("self_test"),
    log:
        "logs/self_test/{device}.log",
    benchmark:
        RESULTS.benchmark("self_test", "{device}")
    priority: FIRST
    resources:
        gpu=gpus,
    params:
        sources=sources("rnn_parity.trust.run"),
        cases=GRID.config["self_test"]["cases"],
        dtypes=lambda wildcards: [f"--dtype={dtype}" for dtype in dtypes_on(wildcards.device)],
    message:
        "Trying the check on {wildcards.device}"
    shell:
        "logged {log} python -m rnn_parity findings --device {wildcards.device} {params.dtypes} --cases {params.cases}"
        " --output {output}"


rule power:
    output:
        RESULTS.of_device("power"),
    log:
        "logs/power/{device}.log",
    benchmark:
        RESULTS.benchmark("power", "{device}")
    priority: FIRST
    resources:
        gpu=gpus,
    params:
        sources=sources("rnn_parity.trust.run"),
        draws=GRID.config["equivalence"]["draws"],
    message:
        "Trying train_distribution on {wildcards.device}"
    shell:
        "logged {log} python -m rnn_parity power --device {wildcards.device} --draws {params.draws} --output {output}"


# With this workspace cuBLAS can be asked to be deterministic, which is one of the capabilities.
rule capabilities:
    output:
        RESULTS.of_device("capabilities"),
    log:
        "logs/capabilities/{device}.log",
    benchmark:
        RESULTS.benchmark("capabilities", "{device}")
    priority: FIRST
    resources:
        gpu=gpus,
    params:
        sources=sources("rnn_parity.capabilities.probing", *LAYER_MODULES),
        names=[GRID.config["baseline"], *GRID.config["candidates"]],
    message:
        "Probing capabilities on {wildcards.device}"
    shell:
        "logged {log} env CUBLAS_WORKSPACE_CONFIG=:4096:8 python -m rnn_parity capabilities --device {wildcards.device} --output {output} {params.names:q}"
