"""Times and ages as options give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from harness.errors import UsageError

__all__ = ["age", "since_time"]

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    """``48h``, ``90d``, ``12w``.

    :raises UsageError: it is none of these.
    """
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not number.isdigit():
        raise UsageError(f"{text!r} is no age", todo="a number of hours, days or weeks: 48h, 90d, 12w")
    try:
        return timedelta(**{unit: int(number)})
    except OverflowError as error:
        raise UsageError(f"{text!r} is too long an age", todo="a number of hours, days or weeks: 48h, 90d") from error


def since_time(text: str) -> datetime:
    """A date, a time or an age; UTC without a zone, as records' times are in queries.

    :raises UsageError: it is none of these.
    """
    from harness.results.record import now  # brings NumPy

    if text[-1:] in _UNITS and text[:-1].isdigit():
        try:
            return now().replace(tzinfo=None) - age(text)
        except OverflowError as error:
            raise UsageError(f"{text!r} is too long an age", where="--since", todo="30d, say") from error
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        todo = "a date (2026-11-23), a time (2026-11-23T06:00), or an age: 12h, 30d, 8w"
        raise UsageError(f"{text!r} is no time", where="--since", todo=todo) from error
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
