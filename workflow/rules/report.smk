# From the tables of all jobs to the pictures and the prose.


FIGURE_SOURCES = [
    "report/figures", "findings/figure_tables", "findings/verdicts", "findings/speedups", "findings/efficiency", "timing/roofline", "trust/rates", "trust/findings", "statistics",
]  # fmt: skip
REPORT_SOURCES = ["report", "findings/cases", "findings/answer", "findings/capabilities", *FIGURE_SOURCES]


rule collect:
    input:
        per_job(rules.equivalence.output[0]),
        per_job(rules.timing.output.rows),
        [f"results/{part}" for part in GRID.trust_parts],
        config=rules.experiment.output[0],
    output:
        equivalence="results/equivalence.parquet",
        timing="results/timing.parquet",
        self_test="results/self_test.parquet",
        coverage="results/coverage.parquet",
        capabilities="results/capabilities.parquet",
    log:
        "logs/collect.log",
    localrule: True
    params:
        sources=sources("tables"),
    shell:
        "python -m rnn_parity collect --config {input.config} --results results 2> {log}"


# Made by decoder.smk, where there are such sweeps.
DECODER_RESULTS = expand("results/decoder/{table}.parquet", table=DECODER_TABLES if GRID.decoder_jobs else [])
DECODER_PICTURES = expand("reports/figures/{name}.svg", name=DECODER_FIGURES if GRID.decoder_jobs else [])


rule tables:
    input:
        rules.collect.output,
        DECODER_RESULTS,
        environment=rules.environment.output[0],
    output:
        report(
            directory("reports/tables"),
            patterns=["{name}.{format}"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"table": "{name}", "format": "{format}"},
        ),
    log:
        "logs/tables.log",
    localrule: True
    params:
        sources=sources(*REPORT_SOURCES),
        decoder="--decoder" if GRID.decoder_jobs else "",
    shell:
        "python -m rnn_parity tables --results results --environment {input.environment} {params.decoder} --output {output}"
        " 2> {log}"


rule figures:
    input:
        rules.collect.output,
        masks=rules.masks.output[0],
        config=rules.experiment.output[0],
        environment=rules.environment.output[0],
    output:
        [
            report(
                f"reports/figures/{name}.svg",
                caption=f"../report/{name}.rst",
                category="Figures",
                labels={"figure": figure.title},
            )
            for name, figure in FIGURES.items()
        ],
        expand("reports/figures/{name}.{format}", name=FIGURES, format=["pdf", "png"]),
    log:
        "logs/figures.log",
    localrule: True
    params:
        sources=sources(*FIGURE_SOURCES),
    shell:
        "python -m rnn_parity figures --config {input.config} --results results --masks {input.masks}"
        " --environment {input.environment} --output reports/figures 2> {log}"


rule report:
    input:
        rules.figures.output,
        rules.collect.output,
        DECODER_RESULTS,
        DECODER_PICTURES,
        config=rules.experiment.output[0],
        environment=rules.environment.output[0],
    output:
        markdown="reports/report.md",
        html=report("reports/report.html", caption="../report/report.rst", category="Report"),
    log:
        "logs/report.log",
    localrule: True
    params:
        sources=sources(
            "report/templates",
            "../rnn_parity_t2vec/section",
            "../rnn_parity_t2vec/findings",
            "../rnn_parity_t2vec/entries",
            *REPORT_SOURCES,
        ),
        decoder="--decoder" if GRID.decoder_jobs else "",
    shell:
        "python -m rnn_parity report --config {input.config} --environment {input.environment} --results results"
        " --figures reports/figures {params.decoder} --markdown {output.markdown} --html {output.html} 2> {log}"


# A target of its own: it fails after the report is written, and the report stays.
rule gate:
    input:
        rules.report.output,
        equivalence=rules.collect.output.equivalence,
    log:
        "logs/gate.log",
    localrule: True
    shell:
        "python -m rnn_parity gate --equivalence {input.equivalence} 2>&1 | tee {log}"
