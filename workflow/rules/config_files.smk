import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

from dmf_sharpness.errors import UserError
from dmf_sharpness.artifacts.lineage import check_imported
from dmf_sharpness.artifacts.yaml_files import read_mapping

# A folder that has no configuration of its own takes the project's: only results are written there.
CONFIG = Path("config")
if PROJECT is not None and not (
    Path("config/config.yaml").exists() or Path("config/experiments").is_dir()
):
    CONFIG = PROJECT / "config"

# The file that holds the configuration, then those of the command line, the last of which has the last word.
# A workflow that takes this one as a module hands its configuration over, and has read its files itself.
OVERWRITING = list(workflow.overwrite_configfiles)
IS_HANDED_OVER = workflow.modifier.skip_configfile
READ = [file for file in workflow.configfiles if file not in OVERWRITING]
CONFIG_FILES = [
    Path(os.path.relpath(file))
    for file in (READ if IS_HANDED_OVER else [CONFIG / "config.yaml"]) + OVERWRITING
] or [CONFIG / "config.yaml"]

try:
    if PROJECT is not None:
        check_imported(PROJECT)
    # A key given twice, a tab, a byte that is no text: Snakemake, which reads these files, takes the last of
    # two keys in silence, and says little of the rest.
    for path in CONFIG_FILES:
        if path.exists() or not IS_HANDED_OVER:
            read_mapping(path)
except UserError as error:
    raise WorkflowError(str(error)) from None
