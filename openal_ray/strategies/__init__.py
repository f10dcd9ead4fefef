"""Which images to ask for: strategies as data, one small file a family, all of them listed in catalogue.py."""
