"""The root of every error the platform raises on purpose."""

from typing import ClassVar


class PlatformError(Exception):
    """An expected failure with a stable code.

    Facts travel as positional arguments, so that an error survives pickling and can be
    rebuilt from `args`. Subclasses set `code` (stable text, part of the public interface)
    and `retryable`.
    """

    code: ClassVar[str] = "platform_error"
    retryable: ClassVar[bool] = False
