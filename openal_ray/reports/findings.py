"""What a comparison says, in sentences: the headline, and what to keep in mind before believing it."""

import math
from collections.abc import Iterator

from openal_ray.reports.comparison import REFERENCE, Comparison, Row, rejects
from openal_ray.reports.wording import count, percent


def headline(comparison: Comparison) -> str:
    """The result in one to three sentences, true for any number of strategies."""
    if not comparison.rows:
        return " ".join(f"{_last(row)}, trained on all of them." for row in comparison.supervised)
    best = comparison.rows[0]
    if len(comparison.rows) == 1:
        return f"{_last(best)}. {_saved(best)}".strip()
    if math.isnan(best.aubc.mean):
        return "These runs have no label count in common, so they cannot be ranked."
    area = f"mean accuracy {percent(best.aubc)} % over the label range"
    if best.group.name == REFERENCE:
        return f"No strategy beats random here: it has the highest {area}."
    return f"{best.group.label} is best, with {area}. {_saved(best)}".strip()


def cautions(comparison: Comparison) -> list[str]:
    """What weakens the headline or explains the numbers; empty if nothing does."""
    return list(_cautions(comparison)) if comparison.rows else []


def _cautions(comparison: Comparison) -> Iterator[str]:
    rows = comparison.rows
    seeds = {len(row.group.seeds) for row in rows}
    if len(rows) > 1 and seeds == {1}:
        yield "There is one seed a strategy: a difference may be chance. Run more, with seed=1, seed=2 and so on."
    elif len(seeds) > 1:
        yield f"The strategies have {min(seeds)} to {max(seeds)} seeds; those with few are less certain."
    yield from _narrow_lead(comparison)
    if rejects(comparison):
        yield "Labels are counted as annotated images, rejected ones too: the budget pays for every answer."
    if comparison.counts and (further := [row for row in rows if row.group.counts[-1] > comparison.counts[-1]]):
        names = ", ".join(row.group.label for row in further)
        yield f"Compared up to {count(comparison.counts[-1])} labels, which all have reached; {names} went further."
    if all(row.group.name != REFERENCE for row in rows):
        yield "There is no random run, so saved labels cannot be counted. Add one with strategy=random."
    for row in comparison.supervised:
        yield f"For comparison: {_last(row)}, trained on all of them."


def _narrow_lead(comparison: Comparison) -> Iterator[str]:
    if len(comparison.rows) < 2:
        return
    best, second = comparison.rows[:2]
    lead, spread = best.aubc.mean - second.aubc.mean, max(best.aubc.sd, second.aubc.sd)
    if lead < spread:  # false if a deviation is nan
        yield (
            f"Its lead over {second.group.label} ({100 * lead:.1f} points) is within one standard deviation "
            f"over seeds ({100 * spread:.1f})."
        )


def _last(row: Row) -> str:
    return f"{row.group.label} reaches {percent(row.last)} % accuracy with {count(row.last_labelled)} labels"


def _saved(row: Row) -> str:
    if row.reference is None:
        return ""
    counts, accuracy, _ = row.reference.mean_curve("accuracy")
    target = f"random's last accuracy ({100 * accuracy[-1]:.1f} % with {count(counts[-1])} labels)"
    if math.isnan(row.labels_saved):
        return f"It never reaches {target}."
    amount = f"{count(abs(row.labels_saved))} {'fewer' if row.labels_saved >= 0 else 'more'} labels"
    return f"It reaches {target} with {amount} ({100 * abs(row.saved_share):.0f} %)."
