import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from tuwen.runtime.pipeline import BATCH
from tuwen.runtime.tower import STEP, TEXTS, image_batches, padded_rows, text_batches
from tuwen.types import Tokens

PADDED = tiny.TEXT.model_copy(update={"cut_exact": False})


def tokens(lengths: list[int], width: int | None = None) -> Tokens:
    ids = np.full((len(lengths), width or max(lengths, default=0)), 7)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = np.arange(100, 100 + length)
    return Tokens(ids, np.array(lengths, dtype=np.int64))


@pytest.mark.parametrize(
    ("count", "fixed", "sizes"), [(0, None, []), (1, None, [1]), (3, 2, [2, 1]), (3, 1, [1, 1, 1])]
)
def test_pictures_in_turns(count: int, fixed: int | None, sizes: list[int]) -> None:
    batches = list(image_batches(count, fixed))
    assert [len(range(count)[rows]) for rows in batches] == sizes


def test_many_pictures_come_in_bounded_batches() -> None:
    assert [rows.stop - rows.start for rows in image_batches(2 * BATCH + 5, None)] == [BATCH, BATCH, 5]


lengths_of_texts = st.lists(st.integers(2, tiny.CONTEXT), max_size=200)


@given(lengths_of_texts, st.sampled_from([None, 1, 3]), st.booleans())
def test_every_text_is_in_one_batch_with_its_tokens_its_mask_and_padding(
    lengths: list[int], batch: int | None, cut: bool
) -> None:
    spec = tiny.TEXT if cut else PADDED
    seen = []
    for part in text_batches(tokens(lengths), spec, (batch, None)):
        assert len(part.rows) <= (batch or TEXTS)
        for row, ids, mask in zip(part.rows, part.ids, part.mask, strict=True):
            length = lengths[row]
            assert ids[:length].tolist() == list(range(100, 100 + length))
            assert (ids[length:] == spec.pad_id).all()
            assert mask.tolist() == [1] * length + [0] * (len(ids) - length)
            seen.append(int(row))
    assert sorted(seen) == list(range(len(lengths)))


@given(lengths_of_texts, lengths_of_texts)
def test_the_width_of_a_text_does_not_depend_on_the_others(lengths: list[int], others: list[int]) -> None:
    def widths(rows: list[int]) -> dict[int, int]:
        return {
            int(row): part.ids.shape[1]
            for part in text_batches(tokens(rows), tiny.TEXT, (None, None))
            for row in part.rows
        }

    alone, among = widths(lengths), widths(lengths + others)
    assert alone == {row: among[row] for row in alone}
    assert all(lengths[row] <= width <= min(lengths[row] + STEP - 1, tiny.CONTEXT) for row, width in alone.items())


def test_texts_that_may_not_be_cut_fill_the_context_and_fixed_widths_win() -> None:
    assert {part.ids.shape[1] for part in text_batches(tokens([3, 9]), PADDED, (None, None))} == {tiny.CONTEXT}
    assert {part.ids.shape[1] for part in text_batches(tokens([3, 9]), tiny.TEXT, (None, 30))} == {30}


def test_tokens_padded_by_others_are_cut_and_padded_as_the_model_wants() -> None:
    (part,) = text_batches(tokens([3], width=20), tiny.TEXT, (None, None))
    assert part.ids.tolist() == [[100, 101, 102, tiny.TEXT.pad_id]]


def test_a_batch_that_a_graph_insists_on_is_filled_with_its_last_row() -> None:
    rows = np.array([[1], [2]])
    assert padded_rows(rows, None) is rows
    assert padded_rows(rows, 2) is rows
    assert padded_rows(rows, 4).tolist() == [[1], [2], [2], [2]]
