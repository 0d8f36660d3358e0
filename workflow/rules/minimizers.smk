rule generate_minimizers:
    """Make the minimizers that an experiment asks for."""
    input:
        experiment="config/experiments/{experiment}.yaml",
        script="workflow/scripts/generate_minimizers.py",
    output:
        ensure(
            update("results/minimizers/{experiment}{replica}.safetensors"),
            non_empty=True,
        ),
    log:
        "logs/generate_minimizers/{experiment}{replica}.log",
    benchmark:
        "results/benchmarks/generate_minimizers/{experiment}{replica}.tsv"
    conda:
        "../envs/replication.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=20,
    params:
        code=digest_of("workflow/scripts/generate_minimizers.py"),
        replica=replica_option,
    shell:
        "python {input.script} {input.experiment} {output} {params.replica} &> {log}"
