"""Settings of every test: one thread for each library, asked for before torch is imported."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402

torch.set_num_threads(1)
