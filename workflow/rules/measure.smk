# One process per job of the grid: first whether the numbers agree, then how long they take.


rule equivalence:
    output:
        "results/equivalence/{sweep}/{job}.parquet",
    log:
        "logs/equivalence/{sweep}/{job}.log",
    wildcard_constraints:
        sweep=sweeps_of("layer"),
    priority: 1
    threads: lambda wildcards: job_of(wildcards).threads
    resources:
        gpu=lambda wildcards: int(job_of(wildcards).device == "cuda"),
    params:
        sources=sources(*EQUIVALENCE_SOURCES, *IMPLEMENTATION_SOURCES),
        job=lambda wildcards: GRID.equivalence_request(job_of(wildcards)),
        note_exit_code=NOTE_EXIT_CODE,
    message:
        "Checking {wildcards.sweep} {wildcards.job}"
    shell:
        "python -m rnn_parity equivalence --job {params.job:q} --output {output} 2> {log} || {params.note_exit_code} >> {log}"


# Asking for every core keeps all other jobs of this workflow away while the clock runs. What need not be alone comes
# first and fills the machine (priority 1); then these in one block, the longest first.
rule timing:
    output:
        rows="results/timing/{sweep}/{job}.parquet",
        samples="results/timing/{sweep}/{job}.samples.parquet",
    log:
        "logs/timing/{sweep}/{job}.log",
    wildcard_constraints:
        sweep=sweeps_of("layer"),
    priority: lambda wildcards: 1 - 1 / (1 + job_of(wildcards).size)
    threads: lambda wildcards: workflow.cores if GRID.config["timing"]["exclusive"] else job_of(wildcards).threads
    resources:
        gpu=lambda wildcards: int(job_of(wildcards).device == "cuda"),
    params:
        sources=sources(*TIMING_SOURCES, *IMPLEMENTATION_SOURCES),
        job=lambda wildcards: GRID.timing_request(job_of(wildcards)),
        note_exit_code=NOTE_EXIT_CODE,
    message:
        "Timing {wildcards.sweep} {wildcards.job}"
    shell:
        "python -m rnn_parity timing --job {params.job:q} --output {output.rows} --samples {output.samples} 2> {log}"
        " || {params.note_exit_code} >> {log}"


rule masks:
    output:
        "results/masks.parquet",
    log:
        "logs/masks.log",
    priority: 1
    params:
        sources=sources(
            "dropout/picture",
            "dropout/masks",
            "layers/stimulus",
            "layers/parameters",
            "layers/running",
            *IMPLEMENTATION_SOURCES,
        ),
        job=GRID.masks_request(),
    shell:
        "python -m rnn_parity masks --job {params.job:q} --output {output} 2> {log}"
