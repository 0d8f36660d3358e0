localrules:
    judge_claims,
    render_report,
    verdict,


rule judge_claims:
    """Judge every claim from the tables, each with its negative control."""
    input:
        **judged_tables(),
        script=script("judge_claims"),
        age=OLDEST,
    output:
        json=ensure(update("results/claims.json"), non_empty=True),
        markdown=ensure(update("results/claims.md"), non_empty=True),
    log:
        "logs/judge_claims.log",
    benchmark:
        "results/benchmarks/judge_claims.tsv"
    conda:
        ENVIRONMENT
    shell:
        "job python {input.script:q} {output.json}"
        " --sharpness {input.sharpness} --escape {input.escape}"
        " --bottleneck {input.bottleneck} --studies {input.studies} &> {log}"


rule render_report:
    """The ledger and the figures as one HTML file that needs nothing else."""
    input:
        claims="results/claims.json",
        experiments=experiment_files(),
        figures=expand("figures/{figure}.png", figure=config["figures"]),
        script=script("render_report"),
        age=OLDEST,
    output:
        ensure(update("results/report.html"), non_empty=True),
    log:
        "logs/render_report.log",
    conda:
        ENVIRONMENT
    params:
        config=json.dumps(config),
        # To compare with the ledger, which comes after them: no arrows of their own.
        tables=all_judged_tables(),
    shell:
        "job python {input.script:q} {input.claims} {output} --figures {input.figures}"
        " --experiments {input.experiments:q} --config {params.config:q}"
        " --tables {params.tables} &> {log}"


rule verdict:
    """Whether every claim holds and every control fails; last, after everything is written."""
    input:
        claims="results/claims.json",
        figures=expand(
            "figures/{figure}.{suffix}",
            figure=config["figures"],
            suffix=figure_suffixes(),
        ),
        report="results/report.html",
        script=script("check_verdict"),
        age=OLDEST,
    output:
        "results/verdict.txt",
    log:
        "logs/verdict.log",
    conda:
        ENVIRONMENT
    shell:
        # The verdict into its file; into the log, which is shown, only if it is against the paper.
        "job python {input.script:q} {input.claims} > {output} 2> {log}"
        " || {{ cat {output} >> {log}; exit 1; }}"
