"""Tests of openal_ray.reports."""
