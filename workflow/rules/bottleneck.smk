rule measure_bottleneck:
    """The exact expression behind a bottleneck, beside the true sharpness."""
    input:
        experiment="config/experiments/{experiment}.yaml",
        minimizers="results/minimizers/{experiment}.safetensors",
        script="workflow/scripts/measure_bottleneck.py",
        code=sources("workflow/scripts/measure_bottleneck.py"),
    output:
        ensure(update("results/bottleneck/{experiment}.parquet"), non_empty=True),
    log:
        "logs/measure_bottleneck/{experiment}.log",
    benchmark:
        "results/benchmarks/measure_bottleneck/{experiment}.tsv"
    conda:
        "../envs/replication.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    shell:
        "python {input.script} {input.experiment} {input.minimizers} {output} &> {log}"
