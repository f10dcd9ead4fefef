"""`python -m openal_ray` is the command `openal-ray`, for where that is not on the path, such as in a job."""

from openal_ray.cli import main

if __name__ == "__main__":
    main()
