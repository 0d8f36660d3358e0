rule simulate_escape:
    """Gradient descent from beside the minimizers, below and above the stability limit."""
    input:
        experiment=experiment_file,
        minimizers="results/minimizers/{experiment}{replica}.safetensors",
        script=script("simulate_escape"),
        age=OLDEST,
    output:
        runs=ensure(
            update("results/escape/{experiment}{replica}.parquet"), non_empty=True
        ),
        trajectories=ensure(
            update("results/escape/{experiment}{replica}.trajectories.parquet"),
            non_empty=True,
        ),
    log:
        "logs/simulate_escape/{experiment}{replica}.log",
    benchmark:
        "results/benchmarks/simulate_escape/{experiment}{replica}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {input.minimizers} {output.runs} {params.replica} &> {log}"


rule map_landscape:
    """The loss on the plane of v_1 and v_N around a minimizer that gradient descent left."""
    input:
        experiment=experiment_file,
        minimizers="results/minimizers/{experiment}{replica}.safetensors",
        trajectories="results/escape/{experiment}{replica}.trajectories.parquet",
        script=script("map_landscape"),
        age=OLDEST,
    output:
        ensure(
            update("results/landscape/{experiment}{replica}.safetensors"),
            non_empty=True,
        ),
    log:
        "logs/map_landscape/{experiment}{replica}.log",
    benchmark:
        "results/benchmarks/map_landscape/{experiment}{replica}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=20,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {input.minimizers} {input.trajectories}"
        " {output} {params.replica} &> {log}"


rule run_study:
    """One study of the escape: when, how fast, from where, where to, the phase diagram, orbits."""
    input:
        experiment=experiment_file,
        minimizers="results/minimizers/{experiment}{replica}.safetensors",
        script=script("run_study"),
        age=OLDEST,
    output:
        ensure(
            update("results/studies/{study}/{experiment}{replica}.parquet"),
            non_empty=True,
        ),
    log:
        "logs/run_study/{study}/{experiment}{replica}.log",
    benchmark:
        "results/benchmarks/run_study/{study}.{experiment}{replica}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2500 * attempt,
        runtime=60,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {input.minimizers} {output} {wildcards.study}"
        " {params.replica} &> {log}"
