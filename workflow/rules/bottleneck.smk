rule measure_bottleneck:
    """The exact expression behind a bottleneck, beside the true sharpness."""
    input:
        experiment=experiment_file,
        minimizers="results/minimizers/{experiment}{replica}.safetensors",
        script=script("measure_bottleneck"),
        age=OLDEST,
    output:
        ensure(
            update("results/bottleneck/{experiment}{replica}.parquet"), non_empty=True
        ),
    log:
        "logs/measure_bottleneck/{experiment}{replica}.log",
    benchmark:
        "results/benchmarks/measure_bottleneck/{experiment}{replica}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {input.minimizers} {output} {params.replica} &> {log}"
