# One process per job of the grid: first whether the numbers agree, then how long they take.


rule equivalence:
    input:
        data_of,
    output:
        rows=RESULTS.of_job("equivalence"),
        coverage=RESULTS.of_job("coverage"),
        masks=RESULTS.of_job("masks"),
    log:
        "logs/equivalence/{sweep}/{job}.log",
    benchmark:
        RESULTS.benchmark("equivalence", "{sweep}", "{job}")
    priority: FIRST
    threads: lambda wildcards: job_of(wildcards).threads
    resources:
        gpu=gpus,
        limit_s=LIMIT_S,
        cpus_per_task=cpus,
    params:
        variables=variables,
        sources=sources("rnn_parity.compare.case", "rnn_parity.trust.run", *LAYER_MODULES, without=NOT_TIMED),
        workload=workload_sources(*NOT_TIMED),
        job=lambda wildcards: GRID.equivalence_request(job_of(wildcards)),
    message:
        "Checking {wildcards.sweep} {wildcards.job}"
    shell:
        "logged {log} python -m rnn_parity job equivalence --job {params.job:q} --name {wildcards.sweep}/{wildcards.job}"
        " --limit {resources.limit_s}"


# Asking for every core keeps all other jobs of this workflow away while the clock runs: Snakemake has no other way to
# say "alone on this machine" that also holds on a cluster's node. Then the largest first.
rule timing:
    input:
        data_of,
    output:
        RESULTS.of_job("timing"),
    log:
        "logs/timing/{sweep}/{job}.log",
    benchmark:
        RESULTS.benchmark("timing", "{sweep}", "{job}")
    priority: lambda wildcards: len(job_of(wildcards).cases)
    threads: lambda wildcards: cores_of(job_of(wildcards), timed=True)
    resources:
        gpu=gpus,
        limit_s=LIMIT_S,
        cpus_per_task=cpus,
        slurm_extra=whole_node(timed=True),
    params:
        variables=variables,
        sources=sources("rnn_parity.timing.rounds", *LAYER_MODULES, without=NOT_COMPARED),
        workload=workload_sources(*NOT_COMPARED),
        job=lambda wildcards: GRID.timing_request(job_of(wildcards)),
    message:
        "Timing {wildcards.sweep} {wildcards.job}"
    shell:
        "logged {log} python -m rnn_parity job timing --job {params.job:q} --name {wildcards.sweep}/{wildcards.job}"
        " --limit {resources.limit_s}"


# The extra tables that a workload brings. Those that take times run alone, as timing does.
rule extra:
    input:
        data_of,
    output:
        RESULTS.of_job("{extra}"),
    log:
        "logs/{extra}/{sweep}/{job}.log",
    benchmark:
        RESULTS.benchmark("{extra}", "{sweep}", "{job}")
    wildcard_constraints:
        extra="|".join(GRID.extra_jobs) or "(?!)",
    priority: lambda wildcards: 0 if extra_of(wildcards).timed else FIRST
    threads: lambda wildcards: cores_of(job_of(wildcards), extra_of(wildcards).timed)
    resources:
        gpu=gpus,
        limit_s=LIMIT_S,
        cpus_per_task=cpus,
        slurm_extra=lambda wildcards: whole_node(extra_of(wildcards).timed),
    params:
        variables=variables,
        sources=sources("rnn_parity.timing.rounds", "rnn_parity.compare.case", *LAYER_MODULES),
        workload=workload_sources(),
        job=lambda wildcards: GRID.extra_request(job_of(wildcards), wildcards.extra),
    message:
        "Making {wildcards.extra} of {wildcards.sweep} {wildcards.job}"
    shell:
        "logged {log} python -m rnn_parity job {wildcards.extra} --job {params.job:q} --name {wildcards.sweep}/{wildcards.job}"
        " --limit {resources.limit_s}"


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
        cases=lambda wildcards: sum(len(job.cases) for job in jobs_of(wildcards)),
    shell:
        'echo "$(date +%T) {wildcards.sweep}: {params.cases} cases compared and timed" > {output} 2> {log};'
        " [ -t 1 ] || cat {output}"
