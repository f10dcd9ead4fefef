"""The statistics written down: sentences and tables for people, CSV files for machines."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from openal_ray.reports.run_page import TextTable
from openal_ray.reports.significance import Pair, Saved, Significance
from openal_ray.reports.statistics import ALPHA, TESTABLE
from openal_ray.reports.wording import count

SOUND = 5
"""Seeds from which on a paired test is worth its name; BADGE's experiments have five."""


MOST_TOLD = 3
"""Pairs named in a sentence; the table has them all."""


def verdict(found: Significance) -> list[str]:
    """What can be told from chance, and how far to trust it."""
    return [*_seeds(found), *_pairs(found), *_ranks(found)]


def _seeds(found: Significance) -> Iterator[str]:
    n = found.fewest
    if n < TESTABLE:
        yield f"{n} shared seeds are too few for any test; with {TESTABLE} a first one is possible, {SOUND} are usual."
    elif n < SOUND:
        yield (
            f"{n} shared seeds are weak evidence: a test finds only differences that are large and the same in each, "
            f"and no finding does not mean no difference. Run {SOUND} or more."
        )


def _pairs(found: Significance) -> Iterator[str]:
    if not found.tested:
        return
    sure = [pair for pair in found.pairs if pair.p_holm < ALPHA]
    if not sure:
        yield "No two strategies differ in mean accuracy by more than chance may do (paired t-tests, Holm, 5 %)."
        return
    several = len(found.settings) > 1
    told = "; ".join(f"{_winner(pair)}{f' on {pair.setting}' if several else ''}" for pair in sure[:MOST_TOLD])
    more = f"; and {len(sure) - MOST_TOLD} more" if len(sure) > MOST_TOLD else ""
    yield f"More than chance in mean accuracy (paired t-tests, Holm, 5 %): {told}{more}."


def _winner(pair: Pair) -> str:
    names = (pair.first, pair.second) if pair.area.mean > 0 else (pair.second, pair.first)
    return f"{names[0]} over {names[1]} by {100 * abs(pair.area.mean):.1f} points"


def _ranks(found: Significance) -> Iterator[str]:
    ranking = found.ranking
    if ranking is None:
        return
    seeds = "seeds" if len(found.settings) == 1 else "seeds of all data sets and settings"
    blocks = seeds if found.blocks_are_seeds else "data sets and settings"
    differ = "differ" if ranking.p < ALPHA else "cannot be told apart"
    yield (
        f"Over {ranking.blocks} {blocks} the mean ranks of the {len(found.strategies)} strategies {differ} "
        f"(Friedman's test, p {_p(ranking.p, sign='= ')})."
    )
    if found.blocks_are_seeds:
        yield "Seeds are the blocks of this ranking, so it tells about the data that was used and not about others."


def strategy_table(found: Significance) -> TextTable:
    """A row for each strategy: mean rank, label budgets won, tied and lost against all others, penalty sums."""
    rows = []
    for place, name in enumerate(found.strategies):
        rank = f"{found.ranking.mean_ranks[place]:.2f}" if found.ranking else "–"
        record = " / ".join(map(str, _record(found, name))) if found.tested else "–"
        sums = (found.penalty[place].sum(), found.penalty[:, place].sum())
        rows.append([name, rank, record, *(f"{value:.2f}" for value in sums)])
    return TextTable(["strategy", "mean rank", "won / tied / lost", "beats", "is beaten"], rows)


def saved_table(found: Significance) -> TextTable:
    """Labels saved against random with their interval; "never" where the accuracy is not reached."""
    rows = [
        [saved.strategy, saved.setting, str(saved.n), _labels(saved.labels), _interval(saved)] for saved in found.saved
    ]
    return TextTable(["strategy", "on", "seeds", "labels saved", "95 % interval"], rows)


def pair_table(found: Significance) -> TextTable:
    """Every pair: difference of mean accuracy (AUBC) in points with its interval, p-values, and budgets won."""
    rows = []
    for pair in found.pairs:
        area = pair.area
        interval = "–" if math.isnan(area.low) else f"{_points(area.low)} … {_points(area.high)}"
        record = f"{pair.wins} / {pair.ties} / {pair.losses}" if area.n >= TESTABLE else "–"
        numbers = [str(area.n), _points(area.mean), interval, _p(area.p), _p(pair.p_holm), record]
        rows.append([f"{pair.first} − {pair.second}", pair.setting, *numbers])
    return TextTable(["pair", "on", "seeds", "points", "95 % interval", "p", "p (Holm)", "won / tied / lost"], rows)


def write_csvs(found: Significance, folder: Path) -> None:
    """pairwise.csv, penalty.csv, labels_saved.csv and ranks.csv: shares in 0 … 1, empty where there is no number."""
    pairs = [_pair_fields(pair) for pair in found.pairs]
    _write(folder / "pairwise.csv", list(pairs[0]), (pair.values() for pair in pairs))
    matrix = zip(found.strategies, found.penalty.tolist(), strict=True)
    _write(folder / "penalty.csv", ["beats", *found.strategies], ([name, *row] for name, row in matrix))
    saved = [asdict(each) for each in found.saved]
    columns = ["setting", "strategy", "n", "labels", "low", "high"]
    _write(folder / "labels_saved.csv", columns, (each.values() for each in saved))
    ranks = found.ranking.mean_ranks.tolist() if found.ranking else [math.nan] * len(found.strategies)
    records = ([name, rank, *_record(found, name)] for name, rank in zip(found.strategies, ranks, strict=True))
    _write(folder / "ranks.csv", ["strategy", "mean_rank", "wins", "ties", "losses"], records)


def _pair_fields(pair: Pair) -> dict[str, object]:
    values = asdict(pair)
    area = values.pop("area")
    return values | {f"aubc_{name}": value for name, value in area.items()}


def _record(found: Significance, name: str) -> tuple[int, int, int]:
    """Label budgets that a strategy won, tied and lost, over all its pairs."""
    ahead = [pair for pair in found.pairs if pair.first == name]
    behind = [pair for pair in found.pairs if pair.second == name]
    wins = sum(pair.wins for pair in ahead) + sum(pair.losses for pair in behind)
    losses = sum(pair.losses for pair in ahead) + sum(pair.wins for pair in behind)
    return wins, sum(pair.ties for pair in (*ahead, *behind)), losses


def _write(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_field(value) for value in row] for row in rows)


def _field(value: object) -> object:
    """Infinity stays, as inf: an interval may be open."""
    return "" if isinstance(value, float) and math.isnan(value) else value


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _p(value: float, sign: str = "") -> str:
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{sign}{value:.3f}"


def _labels(value: float) -> str:
    if math.isnan(value):
        return "never"
    return "never" if math.isinf(value) else count(value).replace("-", "−")


def _interval(saved: Saved) -> str:
    return "–" if math.isnan(saved.low) else f"{_labels(saved.low)} … {_labels(saved.high)}"
