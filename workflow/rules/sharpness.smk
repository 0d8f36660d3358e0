rule evaluate_sharpness:
    """The exact sharpness of every minimizer, beside the dense autograd Hessian's."""
    input:
        experiment=experiment_file,
        minimizers="results/minimizers/{experiment}{replica}.safetensors",
        script=script("evaluate_sharpness"),
        age=OLDEST,
    output:
        ensure(
            update("results/sharpness/{experiment}{replica}.parquet"), non_empty=True
        ),
    log:
        "logs/evaluate_sharpness/{experiment}{replica}.log",
    benchmark:
        "results/benchmarks/evaluate_sharpness/{experiment}{replica}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {input.minimizers} {output} {params.replica} &> {log}"
