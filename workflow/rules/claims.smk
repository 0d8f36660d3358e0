localrules:
    judge_claims,
    render_report,
    verdict,


rule judge_claims:
    """Judge every claim from the tables, each with its negative control."""
    input:
        sharpness=expand(
            "results/sharpness/{experiment}.parquet", experiment=without_bottleneck()
        ),
        bottleneck=expand(
            "results/bottleneck/{experiment}.parquet",
            experiment=with_section("bottlenecked"),
        ),
        escape=expand(
            "results/escape/{experiment}.parquet", experiment=with_section("escape")
        ),
        studies=study_tables(),
        script="workflow/scripts/judge_claims.py",
    output:
        json=ensure(update("results/claims.json"), non_empty=True),
        markdown=ensure(update("results/claims.md"), non_empty=True),
    log:
        "logs/judge_claims.log",
    benchmark:
        "results/benchmarks/judge_claims.tsv"
    conda:
        "../envs/replication.yaml"
    params:
        code=digest_of("workflow/scripts/judge_claims.py"),
    shell:
        "python {input.script} {output.json}"
        " --sharpness {input.sharpness} --escape {input.escape}"
        " --bottleneck {input.bottleneck} --studies {input.studies} &> {log}"


rule render_report:
    """The ledger and the figures as one HTML file that needs nothing else."""
    input:
        claims="results/claims.json",
        experiments=expand(
            "config/experiments/{experiment}.yaml", experiment=config["experiments"]
        ),
        figures=expand("figures/{figure}.png", figure=config["figures"]),
        script="workflow/scripts/render_report.py",
        template="src/dmf_sharpness/templates/report.html",
    output:
        ensure(update("results/report.html"), non_empty=True),
    log:
        "logs/render_report.log",
    conda:
        "../envs/replication.yaml"
    params:
        code=digest_of("workflow/scripts/render_report.py"),
        config=json.dumps(config),
    shell:
        "python {input.script} {input.claims} {output} --figures {input.figures}"
        " --experiments {input.experiments} --config {params.config:q} &> {log}"


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
        script="workflow/scripts/check_verdict.py",
    output:
        "results/verdict.txt",
    log:
        "logs/verdict.log",
    conda:
        "../envs/replication.yaml"
    params:
        code=digest_of("workflow/scripts/check_verdict.py"),
    shell:
        # The verdict into its file; into the log, which is shown, only if it is against the paper.
        "python {input.script} {input.claims} > {output} 2> {log}"
        " || {{ cat {output} >> {log}; exit 1; }}"
