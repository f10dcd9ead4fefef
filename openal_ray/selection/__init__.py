"""Selection on plain arrays: which rows to pick, exactly; the halves beside it do the same over shards."""

from openal_ray.selection import scores
from openal_ray.selection.arrays import (
    alpha_mix,
    batch_bald,
    cluster_margin,
    k_center,
    k_center_balanced,
    k_means,
    kmeans_pp,
    max_herding,
    prob_cover,
    stochastic_top_k,
    top_k,
    typiclust,
)

__all__ = [
    "alpha_mix",
    "batch_bald",
    "cluster_margin",
    "k_center",
    "k_center_balanced",
    "k_means",
    "kmeans_pp",
    "max_herding",
    "prob_cover",
    "scores",
    "stochastic_top_k",
    "top_k",
    "typiclust",
]
