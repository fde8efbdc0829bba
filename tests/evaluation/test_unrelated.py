import pytest

from tuwen.evaluation.calibrate import negative_texts


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


@pytest.mark.parametrize("count", [0, 1, 100, 2_000])
def test_as_many_as_are_wanted_and_all_different(count: int) -> None:
    texts = negative_texts(count, ["en", "zh"])
    assert len(texts) == count == len(set(texts))
    assert all(text.strip() == text and text for text in texts)
    assert texts == negative_texts(count, ["en", "zh"])


def test_in_the_languages_of_the_model() -> None:
    assert not any(map(is_chinese, negative_texts(150, ["en", "de"])))
    assert all(map(is_chinese, negative_texts(150, ["zh"])))
    mixed = [is_chinese(text) for text in negative_texts(150, ["en", "zh"])]
    assert 30 < sum(mixed) < 120
    assert negative_texts(50, []) == negative_texts(50, ["en"])
