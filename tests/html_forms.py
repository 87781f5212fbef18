"""What a browser would send if somebody pressed a button without touching anything."""

from html.parser import HTMLParser
from typing import Any


class _Fields(HTMLParser):
    def __init__(self, form_id: str) -> None:
        super().__init__()
        self.form_id = form_id
        self.values: dict[str, list[str]] = {}
        self._in_form = False
        self._select: str | None = None
        self._first_option: str | None = None
        self._textarea: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._in_form = given.get("id") == self.form_id
        name = given.get("name")
        if not self._in_form:
            return
        if tag == "input" and name and self._is_sent(given):
            self.values.setdefault(name, []).append(given.get("value", ""))
        if tag == "textarea" and name:
            self._textarea = name
            self.values[name] = [""]
        if tag == "select":
            self._select, self._first_option = name, None
        if tag == "option" and self._select:
            self._first_option = (
                given["value"] if self._first_option is None else self._first_option
            )
            if "selected" in given:
                self.values.setdefault(self._select, []).append(given["value"])

    def _is_sent(self, given: dict[str, str]) -> bool:
        if given.get("type") in ("checkbox", "radio"):
            return "checked" in given
        return given.get("type") not in ("submit", "button", "file")

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.values[self._textarea][0] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._textarea:
            # A browser drops one line break after the tag, and sends CR LF for the others.
            text = self.values[self._textarea][0].removeprefix("\n").replace("\n", "\r\n")
            self.values[self._textarea] = [text]
            self._textarea = None
        if tag == "select" and self._select:
            self.values.setdefault(self._select, [self._first_option or ""])
            self._select = None
        if tag == "form":
            self._in_form = False


def form_data(html: str, form_id: str) -> dict[str, Any]:
    fields = _Fields(form_id)
    fields.feed(html)
    return dict(fields.values)
