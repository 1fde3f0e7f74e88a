# Sweeps with `workload: decoder`: the layer in t2vec's decoder. Its equivalence and timing stand beside those of layers
# alone, in the same tables; its attribution, trainings and generation in tables of their own.
DECODER_DATA = [GRID.config["decoder"]["file"]] if GRID.decoder_jobs and GRID.config["decoder"]["file"] else []


rule decoder_equivalence:
    input:
        DECODER_DATA,
    output:
        RESULTS.of_job("equivalence"),
    log:
        "logs/equivalence/{sweep}/{job}.log",
    benchmark:
        RESULTS.benchmark("equivalence", "{sweep}", "{job}")
    wildcard_constraints:
        sweep=sweeps_of("decoder"),
    priority: FIRST
    threads: lambda wildcards: job_of(wildcards).threads
    resources:
        gpu=gpus,
    params:
        sources=sources("rnn_parity_t2vec.workload", *LAYER_MODULES),
        job=lambda wildcards: GRID.equivalence_request(job_of(wildcards)),
    message:
        "Checking the decoder in {wildcards.sweep} {wildcards.job}"
    shell:
        "logged {log} python -m rnn_parity decoder equivalence --job {params.job:q} --output {output}"


rule decoder_timing:
    input:
        DECODER_DATA,
    output:
        rows=RESULTS.of_job("timing"),
        samples=RESULTS.of_job("timing", job="{job}.samples"),
        attribution=RESULTS.of_job("attribution"),
    log:
        "logs/timing/{sweep}/{job}.log",
    benchmark:
        RESULTS.benchmark("timing", "{sweep}", "{job}")
    wildcard_constraints:
        sweep=sweeps_of("decoder"),
    priority: lambda wildcards: job_of(wildcards).size
    threads: lambda wildcards: workflow.cores if GRID.config["timing"]["exclusive"] else job_of(wildcards).threads
    resources:
        gpu=gpus,
    params:
        sources=sources("rnn_parity_t2vec.attribution", *LAYER_MODULES),
        job=lambda wildcards: GRID.timing_request(job_of(wildcards)),
    message:
        "Timing the decoder in {wildcards.sweep} {wildcards.job}"
    shell:
        "logged {log} python -m rnn_parity decoder timing --job {params.job:q} --output {output.rows} --samples {output.samples}"
        " --attribution {output.attribution}"


rule decoder_training:
    input:
        DECODER_DATA,
    output:
        training=RESULTS.of_job("training"),
        generation=RESULTS.of_job("generation"),
    log:
        "logs/training/{sweep}/{job}.log",
    benchmark:
        RESULTS.benchmark("training", "{sweep}", "{job}")
    priority: FIRST
    threads: lambda wildcards: job_of(wildcards).threads
    resources:
        gpu=gpus,
    params:
        sources=sources("rnn_parity_t2vec.training", *LAYER_MODULES),
        job=lambda wildcards: GRID.training_request(job_of(wildcards)),
    message:
        "Training the decoder in {wildcards.sweep} {wildcards.job}"
    shell:
        "logged {log} python -m rnn_parity decoder training --job {params.job:q} --output {output.training}"
        " --generation {output.generation}"


rule decoder_collect:
    input:
        RESULTS.of_jobs("attribution", GRID.decoder_jobs),
        RESULTS.of_jobs("training", GRID.training_jobs),
        RESULTS.of_jobs("generation", GRID.training_jobs),
    output:
        expand("results/decoder/{table}.parquet", table=DECODER_TABLES),
    log:
        "logs/decoder_collect.log",
    localrule: True
    params:
        sources=sources("rnn_parity.tables"),
        timed=json.dumps([f"{job.sweep}/{job.name}" for job in GRID.decoder_jobs]),
        trained=json.dumps([f"{job.sweep}/{job.name}" for job in GRID.training_jobs]),
    shell:
        "logged {log} python -m rnn_parity decoder collect --timed {params.timed:q} --trained {params.trained:q} --results results"


rule decoder_figures:
    input:
        rules.decoder_collect.output,
        rules.collect.output,
        config=rules.experiment.output[0],
    output:
        [
            report(
                f"reports/figures/{name}.svg",
                caption=f"../report/{name}.rst",
                category="Figures",
                labels={"figure": figure.title},
            )
            for name, figure in DECODER_FIGURES.items()
        ],
        expand("reports/figures/{name}.{format}", name=DECODER_FIGURES, format=["pdf", "png"]),
    log:
        "logs/decoder_figures.log",
    localrule: True
    params:
        sources=sources("rnn_parity_t2vec.figures", "rnn_parity_t2vec.section"),
    shell:
        "logged {log} python -m rnn_parity decoder figures --results results --output reports/figures"
