"""Tests of openal_ray/data."""
