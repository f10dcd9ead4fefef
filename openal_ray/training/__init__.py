"""How networks are trained: loop.py is the one training loop, batches.py what a batch is, optimisation.py the steps."""
