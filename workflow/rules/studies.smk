rule evaluate_sharpness:
    """The exact sharpness of every minimizer, beside the dense autograd Hessian's."""
    input:
        **inputs_of_stage("evaluate_sharpness"),
    output:
        ensure(
            update("results/sharpness/{experiment}{replica}.parquet"), non_empty=True
        ),
    log:
        "logs/evaluate_sharpness/{experiment}{replica}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {input.minimizers} {output} {params.replica} &> {log:q}"


use rule evaluate_sharpness as measure_bottleneck with:
    # The exact expression behind a bottleneck, beside the true sharpness.
    input:
        **inputs_of_stage("measure_bottleneck"),
    output:
        ensure(
            update("results/bottleneck/{experiment}{replica}.parquet"), non_empty=True
        ),
    log:
        "logs/measure_bottleneck/{experiment}{replica}.log",


rule simulate_escape:
    """Gradient descent from beside the minimizers, below and above the stability limit."""
    input:
        **inputs_of_stage("simulate_escape"),
    output:
        runs=ensure(
            update("results/escape/{experiment}{replica}.parquet"), non_empty=True
        ),
        trajectories=ensure(update(TRAJECTORIES), non_empty=True),
    log:
        "logs/simulate_escape/{experiment}{replica}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {input.minimizers} {output.runs} {params.replica} &> {log:q}"


rule map_landscape:
    """The loss on the plane of v_1 and v_N around a minimizer that gradient descent left."""
    input:
        **inputs_of_stage("map_landscape", trajectories=TRAJECTORIES),
    output:
        ensure(
            update("results/landscape/{experiment}{replica}.safetensors"),
            non_empty=True,
        ),
    log:
        "logs/map_landscape/{experiment}{replica}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=20,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {input.minimizers} {input.trajectories}"
        " {output} {params.replica} &> {log:q}"


rule run_study:
    """One study: of flatness, of the escape (when, how fast, from where, where to), of the regularized problem."""
    input:
        **inputs_of_stage("run_study"),
    output:
        ensure(
            update("results/studies/{study}/{experiment}{replica}.parquet"),
            non_empty=True,
        ),
    log:
        "logs/run_study/{study}/{experiment}{replica}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2500 * attempt,
        runtime=60,
    params:
        replica=replica_option,
    shell:
        "job python {input.script:q} {input.experiment:q} {input.minimizers} {output} {wildcards.study}"
        " {params.replica} &> {log:q}"
