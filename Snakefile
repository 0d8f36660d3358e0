"""Replication of "Sharpness of Minima in Deep Matrix Factorization" (Kamber and Parhi).

experiment files -> minimizers -> sharpness, escape -> claims and figures -> report -> verdict
"""

from snakemake.utils import min_version

min_version("9.19")


include: "workflow/rules/config_files.smk"


configfile: CONFIG_FILES[0]


include: "workflow/rules/common.smk"
include: "workflow/rules/minimizers.smk"
include: "workflow/rules/sharpness.smk"
include: "workflow/rules/bottleneck.smk"
include: "workflow/rules/escape.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/freshness.smk"


onstart:
    check_writable("results", "figures", "logs")


localrules:
    all,
    figures,
    claims,


rule all:
    """Replicate the paper: every claim judged, every figure drawn. Fails if a claim fails."""
    default_target: True
    input:
        "results/verdict.txt",


rule claims:
    """Judge every claim, draw nothing."""
    input:
        "results/claims.json",


rule figures:
    """Draw every figure of the configuration."""
    input:
        expand(
            "figures/{figure}.{suffix}",
            figure=config["figures"],
            suffix=figure_suffixes(),
        ),
