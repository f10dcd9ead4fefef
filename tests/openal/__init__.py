"""Tests of openal/."""
