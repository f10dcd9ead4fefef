"""Tests of selection: against naive forms of the same algorithms."""
