rule judge_claims:
    """Judge every claim from the tables, each with its negative control."""
    input:
        **inputs_of("judge_claims", **judged_tables()),
    output:
        json=ensure(update(CLAIMS), non_empty=True),
        markdown=ensure(update(LEDGER), non_empty=True),
    log:
        "logs/judge_claims.log",
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "job python {input.script:q} {output.json}"
        " --sharpness {input.sharpness} --escape {input.escape}"
        " --bottleneck {input.bottleneck} --studies {input.studies} &> {log:q}"
