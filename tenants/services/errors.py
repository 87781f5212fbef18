"""What a service of any app may refuse; the API turns each into a status."""

from datetime import datetime
from typing import ClassVar

from tenants.kernel.errors import PlatformError


class NotFoundError(PlatformError):
    """Something that a request refers to does not exist, or belongs to someone else."""

    code: ClassVar[str] = "not_found"

    def __init__(self, kind: str, name: str, loc: str = "") -> None:
        super().__init__(kind, name, loc)
        self.kind, self.name, self.loc = kind, name, loc

    def __str__(self) -> str:
        return f"There is no {self.kind} {self.name!r} here."


class AmbiguousError(PlatformError):
    """A name fits several things; `loc` is the field that would tell them apart."""

    code: ClassVar[str] = "ambiguous"

    def __init__(self, message: str, loc: str) -> None:
        super().__init__(message, loc)
        self.message, self.loc = message, loc

    def __str__(self) -> str:
        return self.message


class AlreadyExistsError(PlatformError):
    code: ClassVar[str] = "already_exists"

    def __init__(self, kind: str, name: str, loc: str) -> None:
        super().__init__(kind, name, loc)
        self.kind, self.name, self.loc = kind, name, loc

    def __str__(self) -> str:
        return f"A {self.kind} {self.name!r} exists already; choose another."


class ScopeExceededError(PlatformError):
    """A key may not be given more than its maker has."""

    code: ClassVar[str] = "scope_exceeded"

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(scopes)
        self.scopes = scopes

    def __str__(self) -> str:
        return f"You do not have {', '.join(self.scopes)} yourself, so no key of yours can."


class ExpiryExceededError(PlatformError):
    """A key may not outlive the one that makes it."""

    code: ClassVar[str] = "expiry_exceeded"

    def __init__(self, limit: datetime) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"Your own key ends at {self.limit.isoformat()}, so its keys end by then too."


class KeyEndedError(PlatformError):
    """A key that works no more can neither be rotated nor make another."""

    code: ClassVar[str] = "key_ended"

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"The key {self.key} is revoked or has expired; create a new one."


class KeyReplacedError(PlatformError):
    """A key is rotated once; its successor is what goes on."""

    code: ClassVar[str] = "key_replaced"

    def __init__(self, key: str, successor: str) -> None:
        super().__init__(key, successor)
        self.key, self.successor = key, successor

    def __str__(self) -> str:
        return f"The key {self.key} was rotated into {self.successor}; rotate that one."


class NarrowedKeyError(PlatformError):
    """A key of one project asks for something of the whole tenant."""

    code: ClassVar[str] = "narrowed_key"

    def __str__(self) -> str:
        return "This key is narrowed to one project; this call concerns the whole tenant."


class OwnersOnlyError(PlatformError):
    code: ClassVar[str] = "owners_only"

    def __str__(self) -> str:
        return "Only an owner may change who is an owner."


class LastOwnerError(PlatformError):
    code: ClassVar[str] = "last_owner"

    def __str__(self) -> str:
        return "This is the tenant's last owner; make somebody else one first."


class SecretInvalidError(PlatformError):
    """What was given cannot be a provider's key. The message never holds it."""

    code: ClassVar[str] = "invalid_secret"

    def __init__(self, fault: str, loc: str = "/secret") -> None:
        super().__init__(fault, loc)
        self.fault, self.loc = fault, loc

    def __str__(self) -> str:
        return f"The secret {self.fault}."


class AddressRefusedError(PlatformError):
    """A tenant may not send its calls there."""

    code: ClassVar[str] = "address_refused"

    def __init__(self, fault: str, loc: str = "/base_url") -> None:
        super().__init__(fault, loc)
        self.fault, self.loc = fault, loc

    def __str__(self) -> str:
        return f"The address {self.fault}."


class KeylessProviderError(PlatformError):
    """No such provider, or one that takes no key."""

    code: ClassVar[str] = "unknown_provider"

    def __init__(self, provider: str, known: tuple[str, ...], loc: str = "/provider") -> None:
        super().__init__(provider, known, loc)
        self.provider, self.known, self.loc = provider, known, loc

    def __str__(self) -> str:
        return f"No provider {self.provider!r} takes a key; those that do: {', '.join(self.known)}."


class ProviderTakenError(PlatformError):
    """Another credential of the tenant serves this provider."""

    code: ClassVar[str] = "provider_taken"

    def __init__(self, provider: str, credential: str) -> None:
        super().__init__(provider, credential)
        self.provider, self.credential = provider, credential

    def __str__(self) -> str:
        return f"The credential {self.credential} serves {self.provider} already; disable it first."


class StillRotatingError(PlatformError):
    code: ClassVar[str] = "still_rotating"

    def __init__(self, credential: str) -> None:
        super().__init__(credential)
        self.credential = credential

    def __str__(self) -> str:
        return f"{self.credential} still has two secrets; retire one before you add another."


class UncheckableError(PlatformError):
    """Nobody can be asked whether a credential works."""

    code: ClassVar[str] = "not_checkable"

    def __init__(self, credential: str) -> None:
        super().__init__(credential)
        self.credential = credential

    def __str__(self) -> str:
        return f"{self.credential} is for tools: no provider can be asked whether it works."


class NothingToRetireError(PlatformError):
    code: ClassVar[str] = "nothing_to_retire"

    def __init__(self, credential: str) -> None:
        super().__init__(credential)
        self.credential = credential

    def __str__(self) -> str:
        return f"{self.credential} has one secret only; disable or delete it instead."


class CheckTooSoonError(PlatformError):
    """Providers are asked, and paid for it: not as often as somebody can press a button."""

    code: ClassVar[str] = "check_too_soon"

    def __init__(self, retry_in_seconds: int) -> None:
        super().__init__(retry_in_seconds)
        self.retry_in_seconds = retry_in_seconds

    def __str__(self) -> str:
        return f"This was checked a moment ago; try again in {self.retry_in_seconds} s."


class ProjectNotEmptyError(PlatformError):
    code: ClassVar[str] = "project_not_empty"

    def __init__(self, slug: str) -> None:
        super().__init__(slug)
        self.slug = slug

    def __str__(self) -> str:
        return f"Project {self.slug!r} still holds something; delete its workflows first."
