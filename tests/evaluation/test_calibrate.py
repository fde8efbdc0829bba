"""Thresholds against their definition, tried at every score; and scores of a real, small collection."""

import numpy as np
import pytest

import colours
from tuwen.errors import InvalidInput
from tuwen.evaluation.calibrate import Probe, Samples, Score, choose, measure, samples, thresholds
from tuwen.search.query import RowId


def errors(threshold: float, matching: np.ndarray, unmatching: np.ndarray) -> float:
    return float((matching < threshold).mean() + (unmatching >= threshold).mean())


@pytest.mark.parametrize("seed", range(8))
def test_no_other_threshold_makes_fewer_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matching = np.sort(rng.normal(0.3, 0.05, 40).round(2))
    unmatching = np.sort(rng.normal(0.22, 0.04, 60).round(2))
    chosen = errors(choose(matching, unmatching), matching, unmatching)
    everywhere = np.linspace(0, 0.6, 1201) + 1e-4
    assert chosen == pytest.approx(min(errors(it, matching, unmatching) for it in everywhere))


def test_what_can_be_told_apart_is_divided_in_the_middle() -> None:
    assert choose(np.array([0.5, 0.6, 0.61]), np.array([0.1, 0.3])) == pytest.approx(0.4)


def test_with_one_kind_alone_one_in_twenty_is_wrong() -> None:
    scores = np.linspace(0, 1, 101)
    assert choose(np.array([]), scores) == pytest.approx(0.95)
    assert choose(scores, np.array([])) == pytest.approx(0.05)


def scored(matching, unmatching) -> list[Score]:
    return [Score("text", v, True) for v in matching] + [Score("text", v, False) for v in unmatching]


def test_the_rates_are_of_queries_left_out() -> None:
    rng = np.random.default_rng(0)
    matching, unmatching = rng.normal(0.3, 0.05, 30), rng.normal(0.25, 0.05, 30)
    found = thresholds(samples(scored(matching, unmatching)), 100)["text"]
    assert (found.matching, found.unmatching) == (30, 30)
    wrong = []
    for i in range(30):
        others = np.delete(unmatching, i)
        wrong.append(unmatching[i] >= choose(np.sort(matching), np.sort(others)))
    assert found.false_accept == pytest.approx(np.mean(wrong), abs=1e-4)
    seen = errors(found.threshold, matching, unmatching)
    assert found.false_accept + found.false_reject >= seen - 1e-4


def test_the_rates_hold_for_queries_that_were_not_there() -> None:
    rng = np.random.default_rng(1)
    draw = lambda count: (rng.normal(0.30, 0.03, count), rng.normal(0.22, 0.03, count))  # noqa: E731
    found = thresholds(samples(scored(*draw(300))), 100)["text"]
    matching, unmatching = draw(20_000)
    assert (unmatching >= found.threshold).mean() == pytest.approx(found.false_accept, abs=0.04)
    assert (matching < found.threshold).mean() == pytest.approx(found.false_reject, abs=0.04)


def test_what_was_not_tried_has_no_rate() -> None:
    found = thresholds(samples(scored([], np.linspace(0, 1, 20))), 100)
    assert set(found) == {"text"}
    assert found["text"].false_reject is None
    assert found["text"].false_accept == pytest.approx(0.05, abs=0.06)


def test_four_queries_say_nothing() -> None:
    with pytest.raises(InvalidInput) as raised:
        thresholds(samples(scored([0.1, 0.2], [0.3, 0.4])), 100)
    assert raised.value.value == {"text": 4}


def test_a_kind_with_too_few_is_left_out() -> None:
    few = [*scored([], np.linspace(0, 1, 20)), Score("image", 0.9, True)]
    assert set(thresholds(samples(few), 100)) == {"text"}
    with pytest.raises(InvalidInput) as raised:
        thresholds({}, 0)
    assert raised.value.value == 0


def test_each_kind_has_its_own() -> None:
    both = [*scored([0.3], [0.2]), Score("image", 0.9, True)]
    found = samples(both)
    assert isinstance(found["image"], Samples)
    assert (found["image"].matching.tolist(), found["image"].unmatching.tolist()) == ([0.9], [])
    assert (found["text"].matching.tolist(), found["text"].unmatching.tolist()) == ([0.3], [0.2])


def test_scores_are_of_the_match_or_of_the_best_hit(filled, encoder, photos) -> None:
    reds = [row.id for row in filled.list(where='folder == "red"')]
    blue = filled.search(encoder.encode_texts(["blue"])[0], k=1)[0]
    probes = [Probe("red", tuple(reds[1:])), Probe("blue"), Probe(photos / "red" / "red-0.jpg", (reds[2],))]
    first, second, third = measure(probes, encoder, filled)
    vectors = filled.vectors(reds)
    text = encoder.encode_texts(["red"])[0]
    assert first == Score("text", pytest.approx(max(text @ vectors[row] for row in reds[1:]), abs=1e-6), True)
    assert second == Score("text", pytest.approx(blue.score), False)
    assert third == Score("image", pytest.approx(vectors[reds[0]] @ vectors[reds[2]], abs=1e-5), True)


def test_a_row_scores_its_nearest_row_of_other_content(filled_alone, encoder) -> None:
    from tuwen.ingest.images import ingest

    colours.picture("red", seed=0).save(filled_alone.root / "copy.jpg", quality=95)
    assert list(ingest([filled_alone.root], encoder, filled_alone))[-1].indexed == 1
    (row,) = [row.id for row in filled_alone.list(where='path == "red/red-0.jpg"')]
    (score,) = measure([Probe(RowId(row))], encoder, filled_alone)
    others = filled_alone.search(filled_alone.vectors([row])[row], k=99)
    assert {hit.payload["path"] for hit in others[:2]} == {"red/red-0.jpg", "copy.jpg"}
    assert score == Score("image", others[2].score, True)


def test_an_empty_index_has_no_scores(tmp_path, encoder) -> None:
    from tuwen.index.index import VectorIndex

    with VectorIndex.create(tmp_path / "empty.tuwen", encoder=encoder) as index:
        assert list(measure([Probe("red")], encoder, index)) == [None]
