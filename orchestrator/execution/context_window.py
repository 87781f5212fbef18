"""Refuses what is surely longer than its model can read, before anything is paid for it."""

import structlog

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import ModelRequest
from agents_app.providers.base import ProviderClient
from agents_app.providers.models import model_info
from costs.core.pricing import estimate_tokens, token_lower_bound

log = structlog.get_logger(__name__)


def check_length(request: ModelRequest, client: ProviderClient) -> None:
    """Raises ProviderError (`context_too_long`).

    Where the prompt may be too long, the provider counts it, if it does so for nothing; else what
    no tokenizer could get below has to be too much.
    """
    info = model_info(request.provider, request.model)
    window = info.context_window
    if window is None:
        return
    text = request.prompt_text
    if estimate_tokens(text) <= window:
        return
    least = token_lower_bound(text)
    tokens = _counted(request, client) if info.counts_tokens and least <= window else None
    if (tokens or least) <= window:
        return
    stated = f"{tokens:,}" if tokens else f"at least {least:,}"
    raise ProviderError(
        ProviderErrorKind.CONTEXT_TOO_LONG,
        f"the prompt has {stated} tokens, and {request.model} reads at most {window:,}",
        request.provider,
    )


def _counted(request: ModelRequest, client: ProviderClient) -> int | None:
    try:
        return client.count_tokens(request).tokens
    except ProviderError as error:
        # Whether the model takes it, it will say itself.
        log.warning("tokens_not_counted", reason=str(error))
        return None
