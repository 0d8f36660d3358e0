rule simulate_escape:
    """Gradient descent from beside the minimizers, below and above the stability limit."""
    input:
        experiment="config/experiments/{experiment}.yaml",
        minimizers="results/minimizers/{experiment}.safetensors",
        script="workflow/scripts/simulate_escape.py",
        code=sources("workflow/scripts/simulate_escape.py"),
    output:
        runs=ensure(update("results/escape/{experiment}.parquet"), non_empty=True),
        trajectories=ensure(
            update("results/escape/{experiment}.trajectories.parquet"), non_empty=True
        ),
    log:
        "logs/simulate_escape/{experiment}.log",
    benchmark:
        "results/benchmarks/simulate_escape/{experiment}.tsv"
    conda:
        "../envs/replication.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    shell:
        "python {input.script} {input.experiment} {input.minimizers} {output.runs} &> {log}"


rule map_landscape:
    """The loss on the plane of v_1 and v_N around a minimizer that gradient descent left."""
    input:
        experiment="config/experiments/{experiment}.yaml",
        minimizers="results/minimizers/{experiment}.safetensors",
        trajectories="results/escape/{experiment}.trajectories.parquet",
        script="workflow/scripts/map_landscape.py",
        code=sources("workflow/scripts/map_landscape.py"),
    output:
        ensure(update("results/landscape/{experiment}.safetensors"), non_empty=True),
    log:
        "logs/map_landscape/{experiment}.log",
    benchmark:
        "results/benchmarks/map_landscape/{experiment}.tsv"
    conda:
        "../envs/replication.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=20,
    shell:
        "python {input.script} {input.experiment} {input.minimizers} {input.trajectories}"
        " {output} &> {log}"


rule study_escape:
    """One study of the escape: when, how fast, from where, where to, the phase diagram, orbits."""
    input:
        experiment="config/experiments/{experiment}.yaml",
        minimizers="results/minimizers/{experiment}.safetensors",
        script="workflow/scripts/study_escape.py",
        code=lambda wildcards: sources(
            "workflow/scripts/study_escape.py",
            f"src/dmf_sharpness/studies/{wildcards.study}.py",
        ),
    output:
        ensure(update("results/studies/{study}/{experiment}.parquet"), non_empty=True),
    log:
        "logs/study_escape/{study}/{experiment}.log",
    benchmark:
        "results/benchmarks/study_escape/{study}.{experiment}.tsv"
    conda:
        "../envs/replication.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2500 * attempt,
        runtime=60,
    shell:
        "python {input.script} {input.experiment} {input.minimizers} {output} {wildcards.study}"
        " &> {log}"
