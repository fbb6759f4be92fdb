"""What a history says about one model: its series, their ratios to the reference, and where they changed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from harness import statistics
from harness.errors import UnknownName, UnreadableRecord
from harness.records import Record
from harness.regress import changepoints
from harness.regress.changepoints import find_changes, find_steps
from harness.regress.history.folder import Damage
from harness.regress.history.pins import FILE, Pin, read_pins
from harness.regress.history.point import CAUSE_FIELDS, METRIC_FIELDS, METRIC_SERIES_FIELDS, SERIES_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import duckdb

    from harness.regress.history.folder import HistoryFolder
    from harness.regress.history.point import Metric

Standing: TypeAlias = Literal["suspected", "confirmed", "went away", "machine"]
"""As `harness.regress.changepoints` has it, and `machine`: the fixed piece of work beside the model moved along."""

MIN_MAGNITUDES: Final[dict[Metric, float]] = {"p50": 0.01, "p90": 0.02, "cold": 0.02, "memory": 0.01, "size": 0.005}
"""Smaller changes are not told."""
POINTS_MAX: Final = changepoints.POINTS_MAX
"""Of each series, the newest."""
POINTS_USUAL: Final = 100
SERIES_MAX: Final = 200
"""Of one model; those that were measured last."""
_Row: TypeAlias = dict[str, Any]
"""Of what a `Point` has, the columns that are read here: all of them for thousands of points take half a second."""
_READ: Final = ("run", "planned_at", "measured_at", *CAUSE_FIELDS, "canary_ns", "p50_low_ns", "p50_high_ns")
_EXACT: Final = frozenset({"size"})
_TIMES: Final = frozenset({"p50", "p90", "cold"})
_MACHINE_SHARE: Final = 0.5
"""A change of which the fixed piece of work shows at least so much is the machine's."""


class Cause(Record, frozen=True, kw_only=True):
    """Something that was different before."""

    field: str
    before: str
    after: str


class ChangeTold(Record, frozen=True, kw_only=True):
    """A change of one series."""

    index: int
    """Of the first point at the new level."""
    run: str
    at: str
    ratio: float
    """New level / old level."""
    standing: Standing
    causes: tuple[Cause, ...]
    """Everything recorded that differs between the last point before and the first one after."""


class Series(Record, frozen=True, kw_only=True):
    """Points that may be drawn as one line, oldest first."""

    label: str
    """What tells it from the model's other series."""
    runs: tuple[str, ...]
    at: tuple[str, ...]
    values: tuple[float, ...]
    """In the metric's base unit: ns or bytes."""
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    ratios: tuple[float | None, ...]
    """To the reference; None where it was not measured under these conditions."""
    changes: tuple[ChangeTold, ...]


class Story(Record, frozen=True, kw_only=True):
    """What a history says about one model."""

    model: str
    metric: str
    reference: Pin | None
    series: tuple[Series, ...]
    points_not_shown: int
    """Older ones, and those without this metric."""
    damaged: tuple[tuple[str, str], ...]
    """Files that were left out, and why."""


class ModelTold(Record, frozen=True, kw_only=True):
    """One line of the list of models."""

    model: str
    points: int
    runs: int
    first_at: str
    last_at: str
    reference: Pin | None


def list_models(history: HistoryFolder) -> tuple[ModelTold, ...]:
    """Every model of a history, by name."""
    pins, damaged = _pins(history)
    rows = history.query(
        "SELECT model, count(*), count(DISTINCT run), min(measured_at), max(measured_at) "
        "FROM points GROUP BY 1 ORDER BY 1"
    )
    history.damaged += damaged
    return tuple(
        ModelTold(model=model, points=points, runs=runs, first_at=first, last_at=last, reference=pins.get(model))
        for model, points, runs, first, last in rows
    )


def _pins(history: HistoryFolder) -> tuple[dict[str, Pin], tuple[Damage, ...]]:
    """Every model's reference; none, and what is wrong, where their file is damaged: figures need no reference."""
    try:
        return read_pins(history.folder), ()
    except UnreadableRecord as error:
        return {}, (Damage(FILE, error.problem),)


def tell(history: HistoryFolder, model: str, metric: Metric = "p50", *, last: int = POINTS_USUAL) -> Story:
    """All about one model.

    Args:
        history: Where its points are.
        model: Its name.
        metric: What is looked at.
        last: So many points of each series, the newest; 1 to `POINTS_MAX`.

    Raises:
        UnknownName: It was never measured.
        MissingExtra: DuckDB is not installed.
    """
    pins, damaged = _pins(history)
    pin = pins.get(model)
    key_fields = (*SERIES_FIELDS, *METRIC_SERIES_FIELDS[metric])

    def read(connection: duckdb.DuckDBPyConnection) -> tuple[int, list[_Row], list[_Row]]:
        total = connection.execute("SELECT count(*) FROM points WHERE model = ?", [model]).fetchall()[0][0]
        columns = list(dict.fromkeys((*key_fields, *_READ, METRIC_FIELDS[metric])))
        points = _newest(connection, columns, model, metric, key_fields, last)
        return total, points, _references(connection, columns, model, pin)

    total, points, references = history.ask(read)
    history.damaged += damaged
    if not total:
        raise UnknownName("model in the history", model, tuple(told.model for told in list_models(history)))
    groups: dict[tuple[object, ...], list[_Row]] = {}
    for point in points:
        groups.setdefault(_key(point, key_fields), []).append(point)
    labels = _labels(groups, key_fields)
    by_spot = {_spot(point, pin, key_fields): _value(point, metric) for point in references}
    series = [
        _series(labels[key], group, [by_spot.get(_spot(point, pin, key_fields)) for point in group], metric, pin)
        for key, group in sorted(groups.items(), key=lambda pair: pair[1][-1]["measured_at"])[-SERIES_MAX:]
    ]
    return Story(
        model=model,
        metric=metric,
        reference=pin,
        series=tuple(sorted(series, key=lambda one: one.label)),
        points_not_shown=total - sum(len(one.values) for one in series),
        damaged=tuple((damage.file, damage.problem) for damage in history.damaged),
    )


def require_measured(history: HistoryFolder, model: str, pin: Pin) -> None:
    """Refuse a pin to something that is not there.

    Raises:
        UnknownName: The model, or the run or model it is pinned to, is not in the history.
    """
    known = tuple(told.model for told in list_models(history))
    for name in (model, pin.model):
        if name is not None and name not in known:
            raise UnknownName("model in the history", name, known)
    if pin.run is not None:
        rows = history.query("SELECT DISTINCT run FROM points WHERE model = ? ORDER BY run DESC LIMIT 1000", [model])
        runs = tuple(row[0] for row in rows)
        if pin.run not in runs:
            raise UnknownName(f"run of {model}", pin.run, runs)


def _newest(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[str],
    model: str,
    metric: Metric,
    key_fields: Sequence[str],
    last: int,
) -> list[_Row]:
    """The newest points of each series, oldest first."""
    rows = connection.execute(
        # One column to part by: by all of the fields themselves it takes four times as long.
        f"""
        SELECT {", ".join(columns)} FROM (
            SELECT *, md5(concat_ws(chr(31), {", ".join(f"coalesce({name}::VARCHAR, chr(30))" for name in key_fields)}))
                AS series FROM points WHERE model = ? AND {METRIC_FIELDS[metric]} IS NOT NULL
        ) QUALIFY row_number() OVER (PARTITION BY series ORDER BY measured_at DESC) <= ? ORDER BY measured_at
        """,
        [model, last],
    ).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _references(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], model: str, pin: Pin | None
) -> list[_Row]:
    if pin is None:
        return []
    chosen, named = ("model = ?", [pin.model]) if pin.model is not None else ("model = ? AND run = ?", [model, pin.run])
    rows = connection.execute(f"SELECT {', '.join(columns)} FROM points WHERE {chosen}", named).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _key(point: _Row, key_fields: Sequence[str]) -> tuple[object, ...]:
    return tuple(point[name] for name in key_fields)


def _spot(point: _Row, pin: Pin | None, key_fields: Sequence[str]) -> tuple[object, ...]:
    """In what a point and the one it is a ratio to have to agree."""
    if pin is None or pin.model is None:
        return _key(point, key_fields)
    other = {"model", "inputs"}
    return (point["run"], point["planned_at"], *_key(point, [name for name in key_fields if name not in other]))


def _value(point: _Row, metric: Metric) -> float | None:
    value: float | None = point[METRIC_FIELDS[metric]]
    return value


def _series(
    label: str, points: Sequence[_Row], references: Sequence[float | None], metric: Metric, pin: Pin | None
) -> Series:
    values = [value for point in points if (value := _value(point, metric)) is not None]
    ratios = [value / reference if reference else None for value, reference in zip(values, references, strict=True)]
    is_p50 = metric == "p50"
    return Series(
        label=label,
        runs=tuple(point["run"] for point in points),
        at=tuple(point["measured_at"] for point in points),
        values=tuple(values),
        lows=tuple(point["p50_low_ns"] if is_p50 else None for point in points),
        highs=tuple(point["p50_high_ns"] if is_p50 else None for point in points),
        ratios=tuple(ratios),
        changes=_changes(points, values, ratios, metric, pin),
    )


def _changes(
    points: Sequence[_Row],
    values: Sequence[float],
    ratios: Sequence[float | None],
    metric: Metric,
    pin: Pin | None,
) -> tuple[ChangeTold, ...]:
    """Sought in the ratios where the reference was measured beside each point, otherwise in the figures themselves."""
    beside = pin is not None and pin.model is not None
    figures = ratios if beside else values
    places = [place for place, figure in enumerate(figures) if figure is not None and figure > 0]
    logs = [math.log(figures[place] or math.nan) for place in places]
    magnitude = MIN_MAGNITUDES[metric]
    is_exact = metric in _EXACT
    found = find_steps(logs, min_magnitude=magnitude) if is_exact else find_changes(logs, min_magnitude=magnitude)
    told = []
    edges = [0, *(change.index for change in found), len(places)]
    for number, change in enumerate(found, start=1):
        old = [points[place] for place in places[edges[number - 1] : change.index]]
        new = [points[place] for place in places[change.index : edges[number + 1]]]
        standing: Standing = change.standing
        if metric in _TIMES and not beside and _is_the_machine(old, new, change.after - change.before):
            standing = "machine"
        told.append(
            ChangeTold(
                index=places[change.index],
                run=new[0]["run"],
                at=new[0]["measured_at"],
                ratio=change.ratio,
                standing=standing,
                causes=_causes(old[-1], new[0]),
            )
        )
    return tuple(told)


def _is_the_machine(old: Sequence[_Row], new: Sequence[_Row], moved: float) -> bool:
    """Whether the fixed piece of work, which has nothing to do with the model, changed likewise."""
    before = [math.log(point["canary_ns"]) for point in old if point["canary_ns"]]
    after = [math.log(point["canary_ns"]) for point in new if point["canary_ns"]]
    if not before or not after:
        return False
    canary = statistics.median(after) - statistics.median(before)
    return canary * moved > 0 and abs(canary) >= _MACHINE_SHARE * abs(moved)


def _causes(old: _Row, new: _Row) -> tuple[Cause, ...]:
    pairs = [(name, old[name], new[name]) for name in CAUSE_FIELDS]
    return tuple(
        Cause(field=name, before=_plain(before), after=_plain(after))
        for name, before, after in pairs
        if before != after
    )


def _plain(value: object) -> str:
    return "unknown" if value is None else str(value)


def _labels(keys: Iterable[tuple[object, ...]], key_fields: Sequence[str]) -> dict[tuple[object, ...], str]:
    """The usual words for each series, and whatever else tells it from the others of the same words."""
    by_key = {key: dict(zip(key_fields, key, strict=True)) for key in keys}
    usual = {key: _usual_words(fields) for key, fields in by_key.items()}
    several_devices = len({fields["device_id"] for fields in by_key.values()}) > 1
    labels = {}
    for key, fields in by_key.items():
        alike = [other for other_key, other in by_key.items() if usual[other_key] == usual[key]]
        words = [usual[key], *([str(fields["device_id"])] if several_devices else [])]
        words += [
            f"{name.replace('_', ' ')} {_plain(fields[name])}"
            for name in key_fields
            if name != "device_id" and len({str(other[name]) for other in alike}) > 1
        ]
        labels[key] = ", ".join(words)
    return labels


def _usual_words(fields: Mapping[str, object]) -> str:
    return f"{fields['format']}/{fields['precision']} {fields['runtime']} t{fields['threads']}"
