rule render_figure:
    """Draw one figure from cached tables; nothing is computed again."""
    input:
        unpack(figure_tables),
        **inputs_of("render_figure"),
    output:
        # The report and the README show the PNG.
        png=ensure(update("figures/{figure}.png"), non_empty=True),
        others=[
            ensure(update(f"figures/{{figure}}.{suffix}"), non_empty=True)
            for suffix in figure_suffixes()
            if suffix != "png"
        ],
    log:
        "logs/render_figure/{figure}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        options=figure_options,
        stem=lambda wildcards, output: output.png.removesuffix(".png"),
        width=figure_style("width"),
        palette=figure_style("palette"),
        formats=" ".join(figure_style("formats")),
    shell:
        "job python {input.script:q} {wildcards.figure} {params.stem} {params.options}"
        " --width {params.width} --palette {params.palette} --formats {params.formats} &> {log:q}"


rule render_animation:
    """Optional: the contour figure as it comes about, figures/escape.gif."""
    input:
        unpack(animated_tables),
        **inputs_of("render_animation"),
    output:
        ensure(update(ANIMATION), non_empty=True),
    log:
        "logs/render_animation.log",
    conda:
        ENVIRONMENT
    shell:
        "job python {input.script:q} {output} --trajectories {input.trajectories}"
        " --landscape {input.landscape} &> {log:q}"
