"""What every stage script does alike: paths on the command line, and errors of one line."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from dmf_sharpness.errors import UserError

log = logging.getLogger("dmf_sharpness")


def parser(description: str | None, **positionals: str) -> argparse.ArgumentParser:
    """A parser of positional paths: ``name=help`` in order."""
    result = argparse.ArgumentParser(description=description)
    for name, text in positionals.items():
        result.add_argument(name, metavar=name.upper(), type=Path, help=text)
    return result


def run(main: Callable[[], int | None]) -> None:
    """Run a stage; what a user can put right is one line on standard error and exit status 2."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)  # only our own: font subsetting, say, has a lot to tell
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status)
