"""The command `openal-ray`: where it is installed, and called in this process."""

import sys
from pathlib import Path

from openal_ray import cli

COMMAND = Path(sys.executable).parent / "openal-ray"


def exit_of(*arguments: str) -> int:
    """The exit code of the whole command, with its handling of errors."""
    argv, sys.argv = sys.argv, ["openal-ray", *arguments]
    try:
        cli.main()
    except SystemExit as ending:
        return int(ending.code or 0)
    finally:
        sys.argv = argv
    return 0
