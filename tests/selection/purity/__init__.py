"""Tests of purity scores."""
