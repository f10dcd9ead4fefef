"""Purity scores of open-set methods on plain arrays: how surely is an image in-distribution; picks that use them."""
