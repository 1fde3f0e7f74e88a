# Sweeps with `workload: decoder`: the layer in t2vec's decoder. Its equivalence and timing stand beside those of layers
# alone, in the same tables; its attribution, trainings and generation in tables of their own.
MODEL_SOURCES = [
    "../rnn_parity_t2vec/inputs",
    "../rnn_parity_t2vec/model",
    "../rnn_parity_t2vec/decoding",
    "../rnn_parity_t2vec/batches",
    "../rnn_parity_t2vec/city",
    "../rnn_parity_t2vec/files",
    "../rnn_parity_t2vec/walks",
]
DECODER_DATA = [GRID.config["decoder"]["file"]] if GRID.decoder_jobs and GRID.config["decoder"]["file"] else []


rule decoder_equivalence:
    input:
        DECODER_DATA,
    output:
        "results/equivalence/{sweep}/{job}.parquet",
    log:
        "logs/equivalence/{sweep}/{job}.log",
    wildcard_constraints:
        sweep=sweeps_of("decoder"),
    priority: 1
    threads: lambda wildcards: job_of(wildcards).threads
    resources:
        gpu=lambda wildcards: int(job_of(wildcards).device == "cuda"),
    params:
        sources=sources(
            "../rnn_parity_t2vec/workload",
            "../rnn_parity_t2vec/masks",
            "../rnn_parity_t2vec/reference",
            *MODEL_SOURCES,
            *EQUIVALENCE_SOURCES,
            *IMPLEMENTATION_SOURCES,
        ),
        job=lambda wildcards: GRID.equivalence_request(job_of(wildcards)),
        note_exit_code=NOTE_EXIT_CODE,
    message:
        "Checking the decoder in {wildcards.sweep} {wildcards.job}"
    shell:
        "python -m rnn_parity decoder equivalence --job {params.job:q} --output {output} 2> {log}"
        " || {params.note_exit_code} >> {log}"


rule decoder_timing:
    input:
        DECODER_DATA,
    output:
        rows="results/timing/{sweep}/{job}.parquet",
        samples="results/timing/{sweep}/{job}.samples.parquet",
        attribution="results/attribution/{sweep}/{job}.parquet",
    log:
        "logs/timing/{sweep}/{job}.log",
    wildcard_constraints:
        sweep=sweeps_of("decoder"),
    threads: lambda wildcards: workflow.cores if GRID.config["timing"]["exclusive"] else job_of(wildcards).threads
    resources:
        gpu=lambda wildcards: int(job_of(wildcards).device == "cuda"),
    params:
        sources=sources("../rnn_parity_t2vec/attribution", *MODEL_SOURCES, *TIMING_SOURCES, *IMPLEMENTATION_SOURCES),
        job=lambda wildcards: GRID.timing_request(job_of(wildcards)),
        note_exit_code=NOTE_EXIT_CODE,
    message:
        "Timing the decoder in {wildcards.sweep} {wildcards.job}"
    shell:
        "python -m rnn_parity decoder timing --job {params.job:q} --output {output.rows} --samples {output.samples}"
        " --attribution {output.attribution} 2> {log} || {params.note_exit_code} >> {log}"


rule decoder_training:
    input:
        DECODER_DATA,
    output:
        training="results/training/{sweep}/{job}.parquet",
        generation="results/generation/{sweep}/{job}.parquet",
    log:
        "logs/training/{sweep}/{job}.log",
    priority: 1
    threads: lambda wildcards: job_of(wildcards).threads
    resources:
        gpu=lambda wildcards: int(job_of(wildcards).device == "cuda"),
    params:
        sources=sources(
            "../rnn_parity_t2vec/training",
            "../rnn_parity_t2vec/generation",
            "../rnn_parity_t2vec/masks",
            "dropout/masks",
            "layers/parameters",
            "layers/running",
            *MODEL_SOURCES,
            *IMPLEMENTATION_SOURCES,
        ),
        job=lambda wildcards: GRID.training_request(job_of(wildcards)),
    message:
        "Training the decoder in {wildcards.sweep} {wildcards.job}"
    shell:
        "python -m rnn_parity decoder training --job {params.job:q} --output {output.training}"
        " --generation {output.generation} 2> {log}"


rule decoder_collect:
    input:
        per_job(rules.decoder_timing.output.attribution, GRID.decoder_jobs),
        per_job(rules.decoder_training.output.training, GRID.training_jobs),
        per_job(rules.decoder_training.output.generation, GRID.training_jobs),
    output:
        expand("results/decoder/{table}.parquet", table=DECODER_TABLES),
    log:
        "logs/decoder_collect.log",
    localrule: True
    params:
        sources=sources("tables"),
        timed=json.dumps(per_job("{sweep}/{job}", GRID.decoder_jobs)),
        trained=json.dumps(per_job("{sweep}/{job}", GRID.training_jobs)),
    shell:
        "python -m rnn_parity decoder collect --timed {params.timed:q} --trained {params.trained:q} --results results 2> {log}"


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
        sources=sources(
            "../rnn_parity_t2vec/figures",
            "../rnn_parity_t2vec/findings",
            "../rnn_parity_t2vec/entries",
            "report/figures",
            "compare/criterion",
        ),
    shell:
        "python -m rnn_parity decoder figures --config {input.config} --results results --output reports/figures 2> {log}"
