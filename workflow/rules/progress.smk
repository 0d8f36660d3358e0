import logging
import sys
from pathlib import Path

from snakemake.logging import logger
from snakemake.settings.enums import Quietness

from dmf_sharpness.artifacts.progress_line import ProgressLine, planned_job


def show_progress():
    """Where Snakemake's own lines about rules are not wanted, keep one line up to date instead.

    Snakemake's lines then go to its log alone, and warnings and errors to the screen as well.
    """
    if Quietness.RULES not in (workflow.output_settings.quiet or ()):
        return
    jobs = {
        workflow.dag.jobid(job): planned_job(
            job.rule.name, next((Path(str(log)) for log in job.log), None)
        )
        for job in workflow.dag.needrun_jobs()
    }
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            # Errors of jobs, too, which Snakemake takes for lines about rules.
            handler.filters = [lambda record: record.levelno >= logging.WARNING]
        elif handler.name == "DefaultLogFileHandler":
            handler.filters = []
    # First, so that it can make room before another handler writes about an error.
    logger.handlers.insert(0, ProgressLine(jobs, workflow.cores or 1, sys.stderr))
