rule evaluate_sharpness:
    """The exact sharpness of every minimizer, beside the dense autograd Hessian's."""
    input:
        experiment="config/experiments/{experiment}.yaml",
        minimizers="results/minimizers/{experiment}.safetensors",
        script="workflow/scripts/evaluate_sharpness.py",
        code=sources("workflow/scripts/evaluate_sharpness.py"),
    output:
        ensure(update("results/sharpness/{experiment}.parquet"), non_empty=True),
    log:
        "logs/evaluate_sharpness/{experiment}.log",
    benchmark:
        "results/benchmarks/evaluate_sharpness/{experiment}.tsv"
    conda:
        "../envs/replication.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    shell:
        "python {input.script} {input.experiment} {input.minimizers} {output} &> {log}"
