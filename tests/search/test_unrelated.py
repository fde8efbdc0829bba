import pytest

from tuwen.search.calibrate import unrelated


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


@pytest.mark.parametrize("count", [0, 1, 100, 2_000])
def test_as_many_as_are_wanted_and_all_different(count: int) -> None:
    texts = unrelated(count, ["en", "zh"])
    assert len(texts) == count == len(set(texts))
    assert all(text.strip() == text and text for text in texts)
    assert texts == unrelated(count, ["en", "zh"])


def test_in_the_languages_of_the_model() -> None:
    assert not any(map(is_chinese, unrelated(150, ["en", "de"])))
    assert all(map(is_chinese, unrelated(150, ["zh"])))
    mixed = [is_chinese(text) for text in unrelated(150, ["en", "zh"])]
    assert 30 < sum(mixed) < 120
    assert unrelated(50, []) == unrelated(50, ["en"])
