# From the tables of all jobs to the pictures and the prose.
PARTS = RESULTS.parts(GRID)
MARKERS = [RESULTS.published(job.sweep, job.name) for job in GRID.jobs]
PUBLISHED = [marker if attempt(marker) else ancient(marker) for marker in MARKERS]  # only what is tried again is news
ALL_FIGURES = FIGURES | workload_figures(GRID.config)


rule collect:
    input:
        *PARTS.values(),
        config=rules.experiment.output[0],
    output:
        **{name: RESULTS.table(name) for name in PARTS},
    log:
        "logs/collect.log",
    params:
        sources=sources("rnn_parity.tables"),
    shell:
        "logged {log} python -m rnn_parity collect --results results"


rule figures:
    input:
        rules.collect.output,
        config=rules.experiment.output[0],
        environment=rules.environment.output[0],
    output:
        report(
            directory("reports/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            labels=lambda wildcards: {"figure": ALL_FIGURES[wildcards["figure"]].title},
        ),
    log:
        "logs/figures.log",
    threads: 4
    resources:
        cpus_per_task=1,  # a cluster has better use for more
    params:
        captions={name: figure.caption for name, figure in ALL_FIGURES.items()},
        sources=sources("rnn_parity.report.figures.*", files=("report/figures/rnn_parity.mplstyle", "findings/kept")),
        workloads=report_sources("plot"),
    shell:
        "logged {log} python -m rnn_parity figures --results results --output reports/figures --processes {threads}"


rule report:
    input:
        rules.figures.output,
        rules.collect.output,
        config=rules.experiment.output[0],
        environment=rules.environment.output[0],
        published=PUBLISHED if TRACKING_MODE != "off" else [],  # it says what no server took
    output:
        markdown="reports/report.md",
        answer="reports/answer.txt",
        html=report("reports/report.html", caption="../report/report.rst", category="Report"),
        tables=report(
            directory("reports/tables"),
            patterns=["{name}.{format}"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"table": "{name}", "format": "{format}"},
        ),
    log:
        "logs/report.log",
    params:
        sources=sources("rnn_parity.report.write", files=("report/templates", "findings/kept")),
        workloads=report_sources("section"),
        layers=json.dumps(RUN_AS),
    shell:
        "logged {log} python -m rnn_parity report --results results --output reports --layers {params.layers:q}"


# A target of its own: it fails after the report is written, and the report stays.
rule gate:
    input:
        rules.report.output,
        equivalence=rules.collect.output.equivalence,
        life=rules.collect.output.life,
        timing=rules.collect.output.timing,
    log:
        "logs/gate.log",
    localrule: True
    shell:
        "python -m rnn_parity gate --equivalence {input.equivalence} --life {input.life}"
        " --timing {input.timing} 2>&1 | tee {log}"
