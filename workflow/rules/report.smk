rule render_report:
    """The ledger and the figures as one HTML file that needs nothing else."""
    input:
        **inputs_of(
            "render_report",
            claims=CLAIMS,
            experiments=experiment_files(),
            figures=figure_files("png"),
        ),
    output:
        ensure(update(REPORT), non_empty=True),
    log:
        "logs/render_report.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        config=json.dumps(config),
        # To compare with the ledger, which comes after them: no arrows of their own.
        tables=all_judged_tables(),
    shell:
        "job python {input.script:q} {input.claims} {output} --figures {input.figures}"
        " --experiments {input.experiments:q} --config {params.config:q}"
        " --tables {params.tables} &> {log:q}"


rule check_verdict:
    """Whether every claim holds and every control fails; last, after everything is written."""
    input:
        **inputs_of(
            "check_verdict", claims=CLAIMS, figures=figure_files(), report=REPORT
        ),
    output:
        VERDICT,
    log:
        "logs/check_verdict.log",
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        # The verdict into its file; into the log, which is shown, only if it is against the paper.
        "job python {input.script:q} {input.claims} > {output} 2> {log:q}"
        " || {{ cat {output} >> {log:q}; exit 1; }}"
