from agents_app.core.tools import tool


@tool(is_instant=True)
def text_stats(text: str) -> dict[str, int]:
    """Count the characters, words and lines of a text."""
    return {
        "characters": len(text),
        "words": len(text.split()),
        "lines": len(text.splitlines()),
    }
