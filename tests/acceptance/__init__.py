"""Whole stories on real processes, each by one command and with its trace printed; not part of the test run."""
