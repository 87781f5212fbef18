"""A host whose clock is wrong by `MUSTER_CLOCK_SECONDS`: put this folder into PYTHONPATH.

Python loads it before anything else, so that whoever asks for the time later gets the wrong one.
What is asked of the database, and monotonic clocks, are right.
"""

import datetime
import os
import time
from datetime import datetime as _datetime

_WRONG_BY = float(os.environ.get("MUSTER_CLOCK_SECONDS", "0"))
_time, _time_ns = time.time, time.time_ns


def _wrong_time() -> float:
    return _time() + _WRONG_BY


def _wrong_time_ns() -> int:
    return _time_ns() + int(_WRONG_BY * 1e9)


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        if cls is _WrongDatetime:
            return isinstance(instance, _datetime)
        return super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        if cls is _WrongDatetime:
            return issubclass(subclass, _datetime)
        return super().__subclasscheck__(subclass)


class _WrongDatetime(_datetime, metaclass=_Kind):
    """Makes real ones, which drivers written in C know."""

    def __new__(cls, *args: object, **kwargs: object) -> datetime.datetime:  # type: ignore[misc]
        made = _datetime if cls is _WrongDatetime else cls
        return _datetime.__new__(made, *args, **kwargs)  # type: ignore[arg-type]

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _datetime:  # type: ignore[override]
        return _datetime.fromtimestamp(_wrong_time(), tz)

    @classmethod
    def utcnow(cls) -> datetime.datetime:  # type: ignore[override]
        return cls.now(datetime.UTC).replace(tzinfo=None)


if _WRONG_BY:
    time.time, time.time_ns = _wrong_time, _wrong_time_ns
    datetime.datetime = _WrongDatetime  # type: ignore[misc]
