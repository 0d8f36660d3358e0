import os
from pathlib import Path

from snakemake.sourcecache import LocalSourceFile

# The project's folder, wherever the workflow was started from; None for a workflow that Snakemake reads
# out of a Git repository or from the network, where there is no folder.
RULES = workflow.current_basedir
PROJECT = None
if isinstance(RULES, LocalSourceFile):
    PROJECT = Path(
        os.path.relpath(RULES.join("../..").get_path_or_uri(secret_free=True))
    )
# Inputs of rules are patterns, in which braces are wildcards: a folder with such a name is named by a link.
if "{" in str(PROJECT):
    LINK = Path(".snakemake/project")
    if LINK.resolve() != PROJECT.resolve():
        LINK.parent.mkdir(exist_ok=True)
        LINK.unlink(missing_ok=True)
        LINK.symlink_to(PROJECT.absolute())
    PROJECT = LINK
