"""What can go wrong with money."""

from tenants.kernel.errors import PlatformError


class CostsError(PlatformError):
    code = "costs_error"


class UnknownPriceError(CostsError):
    """No price row and no library price: the call must not be made, since it cannot be priced."""

    code = "unknown_price"

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(provider, model)
        self.provider = provider
        self.model = model

    def __str__(self) -> str:
        return (
            f"no price is known for model {self.model!r} of provider {self.provider!r}; "
            "add a price row for it"
        )


class TooManyGroupsError(CostsError):
    """A report of more rows than anybody reads."""

    code = "too_many_groups"

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most

    def __str__(self) -> str:
        return f"this makes more than {self.most:,} rows; ask for fewer groups or a shorter time"
