rule measure_bottleneck:
    """The exact expression behind a bottleneck, beside the true sharpness."""
    input:
        experiment="config/experiments/{experiment}.yaml",
        minimizers="results/minimizers/{experiment}{replica}.safetensors",
        script="workflow/scripts/measure_bottleneck.py",
    output:
        ensure(
            update("results/bottleneck/{experiment}{replica}.parquet"), non_empty=True
        ),
    log:
        "logs/measure_bottleneck/{experiment}{replica}.log",
    benchmark:
        "results/benchmarks/measure_bottleneck/{experiment}{replica}.tsv"
    conda:
        "../envs/replication.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        code=digest_of("workflow/scripts/measure_bottleneck.py"),
        replica=replica_option,
    shell:
        "python {input.script} {input.experiment} {input.minimizers} {output} {params.replica} &> {log}"
