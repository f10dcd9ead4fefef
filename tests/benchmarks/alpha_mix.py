"""ALFA-Mix's closed form against its scan of 32 steps and C anchors: CPU-seconds, and the same candidates.

    python -m tests.benchmarks.alpha_mix            (about 4 minutes on one core)

One process, one thread, CPU-seconds. Two forms of the scan, both vectorised over rows in float32:
  plain   whole arrays in torch, one operation after the other, as its authors' code goes: one step on the whole pool,
          times 32 (every step does the same work), shown with an x
  tiled   as fast as we could write it: in place, in tiles that stay in the cache, all steps on the first rows
Both go through all steps, as they must where there are fewer candidates than the budget. The tiled scan in float64 says
which candidates are right; only float32's rounding may set the fast scan apart. Data: rectified features of classes
that overlap, a head trained on 1000 labelled ones.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from openal_ray.selection.alpha_mix import class_anchors  # noqa: E402
from openal_ray.selection.alpha_steps import NEVER, first_steps, step_limits  # noqa: E402
from tests.benchmarks.selection_data import rectified  # noqa: E402

LABELLED, POOL, WIDTH, CAP = 1000, 20_000, 512, 1 / 32
TILE = 256
GOALS = {10: 200, 100: 500}


def problem(n_classes: int, per_class: int) -> tuple[np.ndarray, ...]:
    """Features float32 [POOL, D], logits, weights, bias, anchors; `per_class` labelled images make an anchor."""
    torch.manual_seed(0)
    rows = rectified(POOL + LABELLED, WIDTH)
    teacher = np.random.default_rng(1).normal(size=(WIDTH, n_classes))
    classes = ((rows - rows[:LABELLED].mean(axis=0)) @ teacher).argmax(axis=1)
    labelled, targets = torch.from_numpy(rows[:LABELLED]), torch.from_numpy(classes[:LABELLED])
    head = torch.nn.Linear(WIDTH, n_classes)
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(labelled), targets).backward()
        optimiser.step()
    with torch.no_grad():
        logits = head(torch.from_numpy(rows[LABELLED:])).numpy()
    chosen = np.concatenate([np.flatnonzero(classes[:LABELLED] == c)[:per_class] for c in range(n_classes)])
    anchors = class_anchors(rows[chosen], classes[chosen], n_classes)
    return rows[LABELLED:], logits, head.weight.detach().numpy(), head.bias.detach().numpy(), anchors


def scan(
    features: np.ndarray, logits: np.ndarray, weights: np.ndarray, bias: np.ndarray, anchors: np.ndarray, kind: Any
) -> np.ndarray:
    """First steps as the authors' code finds them: a mix and a pass of the head for every step and anchor."""
    steps = np.full(len(features), NEVER)
    heads, biases, targets = weights.T.astype(kind), bias.astype(kind), anchors.astype(kind)
    for low in range(0, len(features), TILE):
        rows, own = features[low : low + TILE].astype(kind), logits[low : low + TILE].argmax(axis=1)
        residuals = torch.from_numpy(logits[low : low + TILE].astype(kind)).softmax(dim=1).numpy()
        residuals[np.arange(len(rows)), own] -= 1
        gradients = residuals @ weights.astype(kind)
        norms = np.linalg.norm(gradients, axis=1)
        gradients /= np.where(norms > 0, norms, 1)[:, None]
        first = np.full(len(rows), NEVER)
        for step, eps in reversed(list(enumerate((step_limits(CAP) / WIDTH**0.5).tolist()))):
            for target in targets:
                paths = target - rows
                lengths = np.sqrt(np.einsum("nd,nd->n", paths, paths)) * kind(eps)
                alphas = gradients / (paths + kind(1e-8))
                alphas *= lengths[:, None]
                paths *= alphas
                paths += rows
                changed = (paths @ heads + biases).argmax(axis=1) != own
                first[changed & (norms > 0)] = step + 1
        steps[low : low + TILE] = first
    return steps


def plain_step(
    features: np.ndarray, logits: np.ndarray, weights: np.ndarray, bias: np.ndarray, anchors: np.ndarray
) -> torch.Tensor:
    """One step of the scan: bool [n] predictions that some anchor changes."""
    rows, heads, biases = (torch.from_numpy(part) for part in (features, weights, bias))
    own, residuals = torch.from_numpy(logits.argmax(axis=1)), torch.from_numpy(logits).softmax(dim=1)
    residuals[torch.arange(len(rows)), own] -= 1
    gradients = residuals @ heads
    changed = torch.zeros(len(rows), dtype=torch.bool)
    for anchor in torch.from_numpy(anchors.astype(np.float32)):
        targets = anchor[None].repeat(len(rows), 1)
        paths = targets - rows
        lengths = CAP / WIDTH**0.5 * paths.norm(dim=1) / gradients.norm(dim=1)
        alphas = lengths[:, None].repeat(1, WIDTH) * gradients / (paths + 1e-8)
        mixed = (1 - alphas) * rows + alphas * targets
        changed |= torch.nn.functional.linear(mixed, heads, biases).argmax(dim=1) != own
    return changed


def microseconds(run: Callable[[], object], n: int, repeats: int = 1) -> float:
    """Median CPU-time of a call, for each of `n` rows."""
    runs = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        runs.append(time.process_time() - begin)
    return statistics.median(runs) / n * 1e6


def row(table: Table, n_classes: int, per_class: int, n_scanned: int) -> None:
    """Times one case and adds its line."""
    features, logits, weights, bias, anchors = problem(n_classes, per_class)
    ours = first_steps(features, logits, weights, anchors, CAP)
    closed = microseconds(lambda: first_steps(features, logits, weights, anchors, CAP), POOL, 7)
    plain = 32 * microseconds(lambda: plain_step(features, logits, weights, bias, anchors), POOL)
    few = features[:n_scanned], logits[:n_scanned], weights, bias, anchors
    right, fast = scan(*few, np.float64), scan(*few, np.float32)
    tiled = microseconds(lambda: scan(*few, np.float32), n_scanned)
    found = ours[ours < NEVER]
    table.add_row(
        f"{n_classes}, {per_class}",
        f"{(anchors == 0).mean():.0%}, {(features == 0).mean():.0%}",
        f"{len(found) / POOL:.0%}, {np.median(found):.0f}",
        f"{plain:.0f} x",
        f"{tiled:.0f}",
        f"{closed:.1f}",
        f"{plain / closed:.0f}x, {tiled / closed:.0f}x",
        f"{GOALS[n_classes]}x",
        f"{(ours[:n_scanned] != right).sum()} of {n_scanned}",
        f"{(fast != right).sum()}",
    )


def main() -> None:
    """Prints the table."""
    table = Table(title=f"ALFA-Mix, {POOL} images, D = {WIDTH}, cap = 1/32: microseconds of CPU an image")
    for head in ("C, labelled a class", "zeros in anchors, images", "candidates, median step", "plain scan"):
        table.add_column(head)
    for head in ("tiled scan", "closed form", "ratios", "goal", "steps that differ", "float32 scan's"):
        table.add_column(head)
    for case in ((10, 100, 1024), (10, 1, 1024), (100, 10, 512), (100, 1, 512)):
        row(table, *case)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
