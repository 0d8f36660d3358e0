import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

from dmf_sharpness.errors import UserError
from dmf_sharpness.yaml_files import read_mapping

# A key given twice, a tab, a byte that is no text: Snakemake, which reads these files next, would take
# the last of two keys in silence, and say little of the rest.
CONFIG_FILES = [Path("config/config.yaml"), *workflow.overwrite_configfiles]
CONFIG_FILES = [Path(os.path.relpath(path)) for path in CONFIG_FILES]

for path in CONFIG_FILES:
    try:
        read_mapping(path)
    except UserError as error:
        raise WorkflowError(str(error)) from None
