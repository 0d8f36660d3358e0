rule evaluate_sharpness:
    """The exact sharpness of every minimizer, beside the dense autograd Hessian's."""
    input:
        experiment="config/experiments/{experiment}.yaml",
        minimizers="results/minimizers/{experiment}{replica}.safetensors",
        script="workflow/scripts/evaluate_sharpness.py",
    output:
        ensure(
            update("results/sharpness/{experiment}{replica}.parquet"), non_empty=True
        ),
    log:
        "logs/evaluate_sharpness/{experiment}{replica}.log",
    benchmark:
        "results/benchmarks/evaluate_sharpness/{experiment}{replica}.tsv"
    conda:
        "../envs/replication.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        code=digest_of("workflow/scripts/evaluate_sharpness.py"),
        replica=replica_option,
    shell:
        "python {input.script} {input.experiment} {input.minimizers} {output} {params.replica} &> {log}"
