# The workflow itself, so that `snakemake` works in this folder and finds profiles/default.
include: "workflow/Snakefile"


# Snakemake takes the default target from this file alone.
workflow.default_target = "all"
