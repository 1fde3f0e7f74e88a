# One process per job of the grid: first whether the numbers agree, then how long they take.


rule equivalence:
    output:
        RESULTS.of_job("equivalence"),
    log:
        "logs/equivalence/{sweep}/{job}.log",
    benchmark:
        RESULTS.benchmark("equivalence", "{sweep}", "{job}")
    wildcard_constraints:
        sweep=sweeps_of("layer"),
    priority: FIRST
    threads: lambda wildcards: job_of(wildcards).threads
    resources:
        gpu=gpus,
    params:
        sources=sources("rnn_parity.compare.case", *LAYER_MODULES),
        job=lambda wildcards: GRID.equivalence_request(job_of(wildcards)),
    message:
        "Checking {wildcards.sweep} {wildcards.job}"
    shell:
        "logged {log} python -m rnn_parity equivalence --job {params.job:q} --output {output}"


# Asking for every core keeps all other jobs of this workflow away while the clock runs: Snakemake has no other way to
# say "alone on this machine" that also holds on a cluster's node. Then the largest first.
rule timing:
    output:
        rows=RESULTS.of_job("timing"),
        samples=RESULTS.of_job("timing", job="{job}.samples"),
    log:
        "logs/timing/{sweep}/{job}.log",
    benchmark:
        RESULTS.benchmark("timing", "{sweep}", "{job}")
    wildcard_constraints:
        sweep=sweeps_of("layer"),
    priority: lambda wildcards: job_of(wildcards).size
    threads: lambda wildcards: workflow.cores if GRID.config["timing"]["exclusive"] else job_of(wildcards).threads
    resources:
        gpu=gpus,
    params:
        sources=sources("rnn_parity.timing.rounds", *LAYER_MODULES),
        job=lambda wildcards: GRID.timing_request(job_of(wildcards)),
    message:
        "Timing {wildcards.sweep} {wildcards.job}"
    shell:
        "logged {log} python -m rnn_parity timing --job {params.job:q} --output {output.rows} --samples {output.samples}"


rule masks:
    output:
        RESULTS.table("masks"),
    log:
        "logs/masks.log",
    priority: FIRST
    params:
        sources=sources("rnn_parity.dropout.picture", *LAYER_MODULES),
        job=GRID.masks_request(),
    shell:
        "logged {log} python -m rnn_parity masks --job {params.job:q} --output {output}"


# Where nobody watches a terminal, as in a file or in the log of a CI, one line tells of every sweep that is done.
rule sweep:
    input:
        lambda wildcards: RESULTS.of_jobs("equivalence", jobs_of(wildcards)),
        lambda wildcards: RESULTS.of_jobs("timing", jobs_of(wildcards)),
    output:
        RESULTS.sweep(),
    log:
        "logs/sweeps/{sweep}.log",
    localrule: True
    params:
        cases=lambda wildcards: sum(job.size for job in jobs_of(wildcards)),
    shell:
        'echo "$(date +%T) {wildcards.sweep}: {params.cases} cases compared and timed" > {output} 2> {log};'
        " [ -t 1 ] || cat {output}"
