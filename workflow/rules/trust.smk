# Whether the answer can be trusted, and what it leaves out: the check tried on itself, and what each layer can do.


rule findings:
    output:
        "results/self_test/{device}-{dtype}.parquet",
    log:
        "logs/self_test/{device}-{dtype}.log",
    priority: 1
    resources:
        gpu=lambda wildcards: int(wildcards.device == "cuda"),
    params:
        sources=sources("trust", "layers/registry", *EQUIVALENCE_SOURCES),
        cases=GRID.config["self_test"]["cases"],
    message:
        "Trying the check in {wildcards.dtype}"
    shell:
        "python -m rnn_parity findings --device {wildcards.device} --dtype {wildcards.dtype} --cases {params.cases}"
        " --output {output} 2> {log}"


rule power:
    output:
        "results/power/{device}.parquet",
    log:
        "logs/power/{device}.log",
    priority: 1
    resources:
        gpu=lambda wildcards: int(wildcards.device == "cuda"),
    params:
        sources=sources(
            "trust",
            "dropout/distribution",
            "statistics",
            "layers/stimulus",
            "compare/criterion",
            "layers/parameters",
            "layers/running",
            "layers/registry",
        ),
        draws=GRID.config["equivalence"]["draws"],
    message:
        "Trying train_distribution on {wildcards.device}"
    shell:
        "python -m rnn_parity power --device {wildcards.device} --draws {params.draws} --output {output} 2> {log}"


rule coverage:
    output:
        "results/coverage/{sweep}/{job}.parquet",
    log:
        "logs/coverage/{sweep}/{job}.log",
    priority: 1
    threads: lambda wildcards: job_of(wildcards).threads
    resources:
        gpu=lambda wildcards: int(job_of(wildcards).device == "cuda"),
    params:
        sources=sources("trust", *EQUIVALENCE_SOURCES, *IMPLEMENTATION_SOURCES),
        job=lambda wildcards: GRID.coverage_request(job_of(wildcards)),
    message:
        "Planting faults in {wildcards.sweep} {wildcards.job}"
    shell:
        "python -m rnn_parity coverage --job {params.job:q} --output {output} 2> {log}"


# With this workspace cuBLAS can be asked to be deterministic, which is one of the capabilities.
rule capabilities:
    output:
        "results/capabilities/{device}.parquet",
    log:
        "logs/capabilities/{device}.log",
    priority: 1
    resources:
        gpu=lambda wildcards: int(wildcards.device == "cuda"),
    params:
        sources=sources(
            "capabilities", "layers/stimulus", "layers/parameters", "layers/running", *IMPLEMENTATION_SOURCES
        ),
        names=[GRID.config["baseline"], *GRID.config["candidates"]],
    message:
        "Probing capabilities on {wildcards.device}"
    shell:
        "CUBLAS_WORKSPACE_CONFIG=:4096:8"
        " python -m rnn_parity capabilities --device {wildcards.device} --output {output} {params.names:q} 2> {log}"
