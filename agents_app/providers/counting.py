"""How many tokens a request is, where its provider does not say."""

from agents_app.core.model import ModelRequest, TokenCount
from costs.core.pricing import estimate_tokens


def estimated_count(request: ModelRequest) -> TokenCount:
    return TokenCount(tokens=estimate_tokens(request.prompt_text), is_estimate=True)
