import json
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from costs.core.errors import UnknownPriceError
from costs.selectors.price_book import Priced, price_book
from costs.selectors.prices import platform_rows, price_rows
from costs.services.prices import Pinned, pin_library_price
from orchestrator.management.support import EXIT_FAILED, command_scope, usage
from orchestrator.selectors.models_in_use import models_in_use
from tenants.kernel.clock import now
from tenants.scope import Actor, acting_as

_RATES = ("input", "output", "cached", "cache_write", "cache_write_1h", "per_request")
_SAID = {
    Pinned.ADDED: "holds from today on",
    Pinned.UNCHANGED: "holds already",
    Pinned.TAKEN: "another row begins today; remove that one first, or pin tomorrow",
}


class Command(BaseCommand):
    help = (
        "show: which price holds for each model in use (exit 1: some have none). "
        "pin: make the price library's current prices rows, which later versions do not change."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        show = actions.add_parser("show")
        show.add_argument("--tenant", help="With this tenant's own prices.")
        show.add_argument("--json", action="store_true")
        pin = actions.add_parser("pin")
        pin.add_argument("models", nargs="*", metavar="PROVIDER/MODEL", help="Else all in use.")
        pin.add_argument(
            "--from",
            dest="source",
            metavar="PROVIDER/MODEL",
            help="What the library calls the one model, such as openrouter/openai/gpt-4o.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "show":
            self._show(**options)
            return
        with acting_as(Actor(kind="command", label="manage.py")):
            self._pin(options["models"], options["source"])

    def _show(self, *, tenant: str | None, json: bool, **_: Any) -> None:
        book = _book(tenant)
        if json:
            self.stdout.write(_json(book))
        else:
            Console().print(_table(book))
        missing = [f"{each.provider}/{each.model}" for each in book if each.price is None]
        if missing:
            self.stderr.write(f"No price, so no call: {', '.join(missing)}.")
            raise SystemExit(EXIT_FAILED)

    def _pin(self, named: list[str], source: str | None) -> None:
        if source is not None and len(named) != 1:
            raise usage("--from says what one model is called in the library: name that one.")
        models = [_pair(name) for name in named] or _known_to_library()
        failed = False
        for provider, model in models:
            try:
                pinned = pin_library_price(
                    provider, model, on=now().date(), source=_pair(source) if source else None
                )
            except UnknownPriceError:
                failed = True
                self.stderr.write(f"{provider}/{model}: the library knows no price of it.")
                continue
            failed = failed or pinned is Pinned.TAKEN
            self.stdout.write(f"{provider}/{model}: {_SAID[pinned]}.")
        if failed:
            raise SystemExit(EXIT_FAILED)


def _book(slug: str | None) -> list[Priced]:
    today = now().date()
    if slug is None:
        return price_book(platform_rows(), models_in_use(), on=today)
    with command_scope(slug) as tenant:
        return price_book(price_rows(), models_in_use(tenant), on=today)


def _known_to_library() -> list[tuple[str, str]]:
    book = price_book((), models_in_use(), on=now().date())
    return [(each.provider, each.model) for each in book if each.library is not None]


def _pair(text: str) -> tuple[str, str]:
    provider, slash, model = text.partition("/")
    if not (provider and slash and model):
        raise usage(f"{text!r} is no model; write PROVIDER/MODEL, such as openai/gpt-5.2.")
    return provider, model


def _table(book: Iterable[Priced]) -> Table:
    table = Table("Provider", "Model", "Input", "Output", "Cached", "From", "", box=None)
    for each in book:
        price = each.price
        rates = [price.input, price.output, price.cached] if price else [None] * 3
        shown = ["" if rate is None else f"{rate.normalize():f}" for rate in rates]
        origin = price.source if price else "no price"
        table.add_row(each.provider, each.model, *shown, origin, _remark(each))
    return table


def _remark(each: Priced) -> str:
    if each.is_free:
        return "free"
    return "differs from the library" if each.differs else ""


def _json(book: Iterable[Priced]) -> str:
    return json.dumps(
        [
            {
                "provider": each.provider,
                "model": each.model,
                "usd_per_million": None
                if each.price is None
                else {name: _text(getattr(each.price, name)) for name in _RATES},
                "source": each.price.source if each.price else None,
                "is_free": each.is_free,
                "differs_from_library": each.differs,
            }
            for each in book
        ]
    )


def _text(rate: Any) -> str | None:
    return None if rate is None else f"{rate:f}"
