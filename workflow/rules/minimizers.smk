rule generate_minimizers:
    """Make the minimizers that an experiment asks for."""
    input:
        experiment="config/experiments/{experiment}.yaml",
        script="workflow/scripts/generate_minimizers.py",
        code=sources("workflow/scripts/generate_minimizers.py"),
    output:
        ensure(update("results/minimizers/{experiment}.safetensors"), non_empty=True),
    log:
        "logs/generate_minimizers/{experiment}.log",
    benchmark:
        "results/benchmarks/generate_minimizers/{experiment}.tsv"
    conda:
        "../envs/replication.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=20,
    shell:
        "python {input.script} {input.experiment} {output} &> {log}"
