"""Open-set active learning: strategies for pools with images of no known class."""
