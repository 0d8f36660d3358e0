rule generate_minimizers:
    """Make the minimizers that an experiment asks for."""
    input:
        **inputs_of("generate_minimizers", experiment=EXPERIMENT),
    output:
        ensure(update(MINIMIZERS), non_empty=True),
    log:
        "logs/generate_minimizers/{experiment}{replica}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=20,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {output} {params.replica} &> {log:q}"
