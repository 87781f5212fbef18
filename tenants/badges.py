from django.utils.html import format_html
from django.utils.safestring import SafeString


def state_badge(state: str, icon: str, word: str) -> SafeString:
    """A state as icon, word and colour: never as colour alone."""
    return format_html(
        '<span class="m-badge m-state-{}"><span aria-hidden="true">{}</span> {}</span>',
        state,
        icon,
        word,
    )
