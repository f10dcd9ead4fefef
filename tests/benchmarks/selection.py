"""Selection against what others do: k-center, BADGE, uncertainty scores; seconds, memory, exchanges, bytes, goals.

    python -m tests.benchmarks.selection            (about 20 minutes on one core; --quick: 3 minutes, smaller)
    python -m tests.benchmarks.selection --figure launch/selection.png     also draws cost against N and against B

Seconds are CPU-seconds of one process with one thread; the median of the repeats of forms that run interleaved, and how
many times longer than ours it is. Forms that need a second or more for every hundred picks are run for a few picks and
extrapolated; where they were also run whole, once, those seconds stand beside. Memory is the peak above the inputs, in
a process of its own. `of GEMM` and `of read` are shares of this machine's measured limits: the operations (bytes) of
the plain form, which multiplies every pair (reads every row for every pick), over the seconds; above 100 % means that a
form did not do all of that. scikit-activeml runs as published where it is installed; other peers are their algorithms,
written anew (`selection_peers`).
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from openal_ray import selection  # noqa: E402
from openal_ray.selection import scores, top_k  # noqa: E402
from openal_ray.selection.bounds import upper_bounds  # noqa: E402
from openal_ray.selection.digits import encode  # noqa: E402
from openal_ray.selection.halves import LocalHalves  # noqa: E402
from openal_ray.selection.kmeans_pp import KMeansPPHalf, pick_kmeans_pp  # noqa: E402
from openal_ray.selection.outer_rows import OuterRows, squared_distances  # noqa: E402
from openal_ray.selection.two_level import TwoLevelHalf  # noqa: E402
from tests.benchmarks import selection_data as data  # noqa: E402
from tests.benchmarks import selection_peers as peers  # noqa: E402
from tests.benchmarks.selection_forms import APPROXIMATE, EXPLICIT, FORMS, badge, forms, kmeans_parallel, two_level  # noqa: E402
from tests.benchmarks.selection_forms import k_center as k_center_form  # noqa: E402
from tests.benchmarks.selection_measure import (  # noqa: E402
    Arrays,
    Board,
    Form,
    Row,
    interleaved,
    machine,
    memory,
    print_peak,
    seconds_of,
    warm_up,
)
from tests.selection.test_k_center import check_random_case  # noqa: E402
from tests.selection.test_kmeans_pp import crowded, factors, p_value  # noqa: E402

LABELLED = 1000
BOARD = Board()


def compare(
    kind: str, title: str, arrays: Arrays, k: int, named: dict[str, Form], repeats: int, whole: bool = False,
    with_memory: bool = True,
) -> dict[str, Row]:  # fmt: skip
    """Runs the forms interleaved, then each in a process of its own; prints the table.

    whole   that process runs all picks even of forms that are extrapolated
    """
    for form in named.values():
        warm_up(form.run, arrays)
    runs = {name: (lambda form=form: form.seconds(arrays, k)) for name, form in named.items()}
    rows = {name: Row(seconds) for name, seconds in interleaved(runs, repeats).items()}
    for name, row in rows.items():
        few = named[name].few
        if with_memory:
            row.extra, seconds = memory(kind, name, arrays, k if whole or not few else 1 + few)
            row.whole_seconds = seconds if whole and few else np.nan
        if name.startswith("ours"):
            halves = named[name].run(arrays, k)
            row.exchanges, row.megabytes = halves.count(), halves.megabytes()
    n, columns = len(arrays[0]), arrays[0].shape[1] + (arrays[1].shape[1] if kind == "badge" else 0)
    centres = k + (len(arrays[1]) if kind == "k_center" else 0)
    BOARD.show(
        f"{title}, {k} picks; {'one run' if repeats == 1 else f'medians of {repeats} runs'}",
        rows,
        2.0 * n * centres * columns,
        4.0 * n * columns * k,
    )
    return rows


def fastest_peer(rows: dict[str, Row], *names: str) -> float:
    """Seconds of the fastest of the forms whose names begin so, over ours."""
    chosen = [row.seconds for name, row in rows.items() if name.startswith(names)]
    return min(chosen) / rows["ours, exact"].seconds


def k_center(quick: bool) -> None:
    """G1 to G5, G9: seconds against the peers, exactness, exchanges, memory, the limits of the processor."""
    n, repeats = (10_000, 1) if quick else (50_000, 5)
    named = forms("k_center", APPROXIMATE[0])
    cases = {"drawn features": data.rectified(n + LABELLED, 512), "digits network": data.digits(n + LABELLED)[0]}
    for name, features in cases.items():
        arrays = features[LABELLED:], features[:LABELLED]
        whole = name == "drawn features" and not quick
        rows = compare(
            "k_center", f"k-center: {name}, {n} × 512, {LABELLED} labelled", arrays, 1000, named, repeats, whole
        )
        published = fastest_peer(rows, "running", "scikit-activeml")
        BOARD.at_least("G1", f"k-center, {name}: fastest published form ÷ ours", published, 60)
        BOARD.at_least("G1", f"k-center, {name}: our own float32 loop ÷ ours", fastest_peer(rows, "one pick"), 25)
        BOARD.at_most("G9", f"k-center, {name}: extra memory, copies of the features",
                      rows["ours, exact"].extra / arrays[0].nbytes, 1.2)  # fmt: skip
        halves = FORMS["k_center"]["ours, exact"].run(arrays, 1000)
        BOARD.at_most("G4", f"k-center, {name}: exchanges for 1000 picks", halves.count("candidates"), 5, "")
        against_product(name, arrays, repeats)
    small = data.rectified(10_000 + LABELLED, 64)
    for k, wanted in ((100, 1), (1000, 5)):
        arrays = small[LABELLED:], small[:LABELLED]
        rows = compare("k_center", "k-center: drawn features, 10000 × 64", arrays, k, named, repeats, with_memory=False)
        published = fastest_peer(rows, "running", "scikit-activeml")
        BOARD.at_least("G2", f"10k × 64, {k} picks: fastest published form ÷ ours", published, wanted)
        BOARD.at_least("G2", f"10k × 64, {k} picks: our own float32 loop ÷ ours", fastest_peer(rows, "one pick"), 1)
    for seed in range(100 if quick else 1000):
        check_random_case(seed)
    BOARD.at_least("G3", "random cases equal to naive float64, none differs", seed + 1, 1000, "")


def against_product(name: str, arrays: Arrays, repeats: int) -> None:
    """G5: the whole selection and its first product against one bfloat16 product of the same size."""
    points, covered = arrays
    rows, centres = [encode(points)], [encode(covered)]
    half, half_covered = (torch.from_numpy(array).bfloat16() for array in arrays)
    forms = {
        "ours": lambda: seconds_of(lambda: k_center_form(1)(arrays, 1000)),
        "first product": lambda: seconds_of(lambda: upper_bounds(rows, centres)),
        "bfloat16 product": lambda: seconds_of(lambda: half @ half_covered.t()),
    }
    seconds = interleaved(forms, max(3, repeats))
    operations = 2.0 * len(points) * len(covered) * points.shape[1] / 1e9
    product = seconds["bfloat16 product"]
    BOARD.at_most("G5", f"k-center, {name} ÷ one whole bfloat16 product N × L", seconds["ours"] / product, 2.5)
    peak, speed = machine()["bfloat16 product"], operations / seconds["first product"]
    BOARD.at_least(
        "G5", f"{name}: first product, bounds included, of the probed bfloat16 peak", 100 * speed / peak, 70, "%"
    )
    BOARD.console.print(
        f"{name}: one whole bfloat16 product N × L runs at {100 * operations / product / peak:.0f} % of the probed "
        f"peak; our first product takes {seconds['first product'] / product:.2f} × its time\n"
    )


def badge_cases(quick: bool) -> None:
    """G4, G6, G7: seconds against the peers, exchanges, memory."""
    n, repeats = (10_000, 1) if quick else (50_000, 5)
    features = data.rectified(n, 512)
    cases = [(f"{c} classes", (data.residuals(features, c), features), wanted) for c, wanted in BADGE_GOALS.items()]
    cases.append(("digits network, 10 classes", data.digits(n)[::-1], 60))
    for name, arrays, wanted in cases:
        title, named = f"BADGE: {name}, {n} × 512", forms("badge", APPROXIMATE[1], *EXPLICIT)
        rows = compare("badge", title, arrays, 1000, named, repeats)
        BOARD.at_least("G6", f"BADGE, {name}: one pick at a time, as published ÷ ours",
                       fastest_peer(rows, "one pick at a time, as published"), wanted)  # fmt: skip
        BOARD.at_least("G6", f"BADGE, {name}: our own vectorised form of that ÷ ours",
                       fastest_peer(rows, "one pick at a time"), wanted)  # fmt: skip
        if name == "10 classes":
            named = {form: every for form, every in forms("badge").items() if form in ("ours, exact", *EXPLICIT)}
            explicit = compare("badge", f"{title}, explicit embeddings", arrays, 1000, named, 1)
            for form in list(explicit)[1:]:
                BOARD.at_least("G6", f"BADGE, {name}: {form} ÷ ours", fastest_peer(explicit, form), 1000)
        inputs = sum(array.nbytes for array in arrays)
        BOARD.at_most("G7", f"BADGE, {name}: extra memory ÷ 4 N (C + D)", rows["ours, exact"].extra / inputs, 1.1)
        halves = badge(1)(arrays, 1000)
        BOARD.at_most("G4", f"BADGE, {name}: exchanges for 1000 draws", halves.count("propose"), 5, "")
    BOARD.at_most(
        "G4", "BADGE, digits network: exchanges for 5000 draws", badge(1)(arrays, 5000).count("propose"), 10, ""
    )
    picks = [badge(n_shards)(arrays, 300).picks.indices.tolist() for n_shards in (1, 2, 5, 16)]
    BOARD.at_least("G8", "1, 2, 5, 16 shards that give the same picks", sum(one == picks[0] for one in picks), 4, "")
    if not quick:
        wide = data.rectified(n, 2048)
        arrays = data.residuals(wide, 1000), wide
        extra, seconds = memory("badge", "ours, exact", arrays, 1000)
        BOARD.at_most("G7", f"BADGE, 50k × C 1000 × D 2048 ({seconds:.1f} CPU s): extra memory ÷ 4 N (C + D)",
                      extra / sum(array.nbytes for array in arrays), 1.1)  # fmt: skip


BADGE_GOALS = {10: 60, 100: 40, 1000: 30}


def law(quick: bool) -> None:
    """G8: the law of the draws, and the bounds that it rests on."""
    for n_shards in (1, 3):
        p, cells = p_value(*factors(14, 3, 6, seed=3), k=4, runs=1000 if quick else 30_000, n_shards=n_shards)
        BOARD.at_least("G8", f"χ² against the dense law, {n_shards} shard(s), {cells} joint cells: p", p, 0.01, "")
    violations = 0
    for left, right in (factors(3000, 10, 32), crowded(3000), factors(3000, 100, 8)):
        half = KMeansPPHalf(left, right, np.arange(3000))
        picks = pick_kmeans_pp(LocalHalves([half]), 200, np.random.default_rng(0)).indices
        rows = OuterRows(np.arange(3000), left, right)
        exact, rounding = squared_distances(rows, rows[picks])
        violations += int((half._weights < exact.min(axis=1) - rounding.max()).sum())  # of fewer picks: never below
    BOARD.at_most("G8", "weights below the float64 D² of the end, of 9000", violations, 0, "")


def large_pool(quick: bool) -> None:
    """G10: many picks from a large pool, and what Ray adds to a small one."""
    n, k = (100_000, 1000) if quick else (1_000_000, 10_000)
    features = data.rectified(n + LABELLED, 64)
    arrays = features[LABELLED:], features[:LABELLED]
    named = {name: form for name, form in forms("k_center").items() if name == "ours, exact"}
    rows = compare("k_center", f"k-center: drawn features, {n} × 64", arrays, k, named, 1)
    BOARD.at_most("G10", f"{n} × 64, {k} picks, exact", rows["ours, exact"].seconds, 10, "CPU s")
    BOARD.at_most("G10", "    exchanges, the one that asks for sizes included", rows["ours, exact"].exchanges, 5, "")


def on_ray(quick: bool) -> None:
    """G10: Ray's share of a selection on two shards, in wall time."""
    from tests.benchmarks.selection_ray import shares

    n = 10_000 if quick else 50_000
    features = data.rectified(n + LABELLED, 512)
    left = data.residuals(features[LABELLED:], 10)
    for kind, (whole, ray, share) in shares(features[LABELLED:], features[:LABELLED], left, 1000, 5).items():
        what = f"{kind} on 2 shards, {n} × 512: Ray {ray:.3f} of {whole:.3f} s wall, a share of"
        BOARD.at_most("G10", what, 100 * share, 20, "%")


def approximations(quick: bool) -> None:
    """What the forms that are not exact cost and give, beside the exact ones."""
    n, repeats = (10_000, 1) if quick else (50_000, 3)
    features = data.rectified(n + LABELLED, 512)
    arrays = features[LABELLED:], features[:LABELLED]
    named = {name: form for name, form in FORMS["k_center"].items() if name in ("ours, exact", APPROXIMATE[0])}
    compare("k_center", f"two levels: drawn features, {n} × 512, {LABELLED} labelled", arrays, 1000, named, repeats)
    cover = two_level(arrays, 1000).cover
    chosen = arrays[0][selection.k_center(*arrays, 1000)]
    radius = TwoLevelHalf(arrays[0], np.arange(n), 1).radius(np.concatenate([arrays[1], chosen]))
    BOARD.console.print(
        f"covering radius: two levels {cover.radius:.3f} (no choice below {cover.least:.3f}); "
        f"exact greedy {radius:.3f}\n"
    )
    arrays = data.residuals(features, 10)[LABELLED:], features[LABELLED:]
    named = {name: form for name, form in FORMS["badge"].items() if name in ("ours, exact", APPROXIMATE[1])}
    compare("badge", f"k-means||: drawn features, 10 classes, {n} × 512", arrays, 1000, named, 1)
    rows = OuterRows(np.arange(n), *arrays)
    for name, run in (("exact D² draws", badge(1)), ("k-means||", kmeans_parallel)):
        found = run(arrays, 1000)
        assert found is not None
        picks = rows[found.picks.indices]
        cost = sum(squared_distances(rows[low : low + 1000], picks)[0].min(axis=1).sum() for low in range(0, n, 1000))
        BOARD.console.print(f"sum of D² after 1000 picks, {name}: {cost:.4g}")
    BOARD.console.print()


def uncertainty(quick: bool) -> None:
    """G12: four scores and their best 1000."""
    rng = np.random.default_rng(0)
    for classes in (10, 100) if quick else (10, 100, 1000):
        logits = torch.from_numpy(4 * rng.standard_normal((50_000, classes), dtype=np.float32))

        def ours(logits: torch.Tensor = logits) -> None:
            probs = logits.softmax(dim=1).numpy()
            for score in (scores.least_confidence, scores.margin, scores.ratio, scores.entropy):
                top_k(score(probs), 1000)

        seconds = interleaved(
            {
                "ours": partial(seconds_of, ours),
                "softmax and sort each": partial(seconds_of, partial(peers.sorted_scores, logits, 1000)),
            },
            3 if quick else 7,
        )
        rows = {name: Row(value) for name, value in seconds.items()}
        size = 4.0 * logits.numel()
        BOARD.show(f"four scores and their best 1000: 50000 × {classes}", rows, np.nan, size)
        ratio = rows["softmax and sort each"].seconds / rows["ours"].seconds
        BOARD.at_least("G12", f"softmax and full sort for each score ÷ ours, {classes} classes", ratio, 3)


PARTS = (k_center, badge_cases, law, large_pool, on_ray, approximations, uncertainty)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and repeats")
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS])
    parser.add_argument("--figure", type=Path, help="also draw cost against N and B into this file")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        kind, name, k, file = options.peak
        print_peak(FORMS[kind][name].run, int(k), Path(file))
        return
    BOARD.limits()
    if not peers.HAS_SCIKIT_ACTIVEML:
        BOARD.console.print("scikit-activeml is not installed: its rows are left out (pip install openal-ray[bench])")
    for part in PARTS:
        if options.only in (None, part.__name__):
            part(options.quick)
    BOARD.console.print(BOARD.goals)
    if options.figure:
        from tests.benchmarks.selection_figure import draw

        draw(options.figure, options.quick)


if __name__ == "__main__":
    main()
