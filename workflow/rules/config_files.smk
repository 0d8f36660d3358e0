import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

from dmf_sharpness.errors import UserError
from dmf_sharpness.artifacts.lineage import check_imported
from dmf_sharpness.artifacts.yaml_files import read_mapping

# The project's folder, wherever the workflow was started from.
RULES = workflow.current_basedir.get_path_or_uri(secret_free=True)
PROJECT = Path(os.path.relpath(os.path.join(RULES, "..", "..")))

# A folder that has no configuration of its own takes the project's: only results are written there.
CONFIG = Path("config") if Path("config/config.yaml").exists() else PROJECT / "config"

# A key given twice, a tab, a byte that is no text: Snakemake, which reads these files next, would take
# the last of two keys in silence, and say little of the rest.
CONFIG_FILES = [CONFIG / "config.yaml", *workflow.overwrite_configfiles]
CONFIG_FILES = [Path(os.path.relpath(path)) for path in CONFIG_FILES]

try:
    check_imported(PROJECT)
    for path in CONFIG_FILES:
        read_mapping(path)
except UserError as error:
    raise WorkflowError(str(error)) from None
