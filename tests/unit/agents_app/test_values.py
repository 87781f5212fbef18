import pytest

from agents_app.core import values


def test_text_that_postgresql_cannot_store_is_replaced():
    assert values.clean_text("a\x00b\ud800c") == "a\ufffdb\ufffdc"


def test_parse_cleans_what_escapes_bring_back():
    assert values.parse(r'{"a\u0000": ["\udfff"]}') == {"a\ufffd": ["\ufffd"]}


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "-1e999", "", "{", "[" * 100_000, "9" * 5000]
)
def test_parse_refuses_what_is_not_sound_json(text):
    with pytest.raises(ValueError):
        values.parse(text)


def test_text_stays_text_and_values_become_json():
    assert values.as_text("plain") == "plain"
    assert values.as_text({"a": [1, None]}) == '{"a":[1,null]}'
