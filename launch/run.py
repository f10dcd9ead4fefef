"""openal-ray on a cluster's head, sent there as one file over ssh.

ray submit cluster.yaml launch/run.py -- run CONFIG [key=value]…

Everything after `--` is what follows `openal-ray` elsewhere; paths start at the repository's copy on the head.
"""

import os
import sys
from pathlib import Path

REPOSITORY = Path(os.environ.get("OPENAL_RAY_HOME", "~/openal_ray")).expanduser()  # where cluster.yaml mounts it


def main() -> None:
    if REPOSITORY.is_dir():
        os.chdir(REPOSITORY)
    os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster that runs here, never one of this process alone
    from openal_ray.cli import main as openal_ray

    sys.argv[0] = "openal-ray"
    openal_ray()


if __name__ == "__main__":
    main()
