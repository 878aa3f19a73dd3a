"""Deletion splits: the same for ever, nested, exact, and never run on other rows."""

import hashlib
import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mubench.errors import MubenchError
from mubench.registry import load_task
from mubench.splits import file_split, make_split, parse_ratio, ratio_name, read_indices

RATIOS = st.decimals("0.5", 50, places=1)
PERSONS = st.lists(st.integers(0, 30), min_size=100, max_size=200)  # whose rows lie anywhere


def by_hand(task, units, percent):
    """The definition, once more: text comparison of hex digests, halves up."""
    ranked = sorted(set(units), key=lambda unit: hashlib.sha256(f"{task}/{unit}".encode()).hexdigest())
    chosen = ranked[: math.floor(Fraction(percent) * len(ranked) / 100 + Fraction(1, 2))]
    return tuple(row for row, unit in enumerate(units) if unit in set(chosen))


@pytest.fixture(scope="module")
def fashion():
    return load_task("fashion")


@given(st.text("abc_", min_size=1), st.one_of(st.integers(100, 400).map(range), PERSONS), RATIOS)
def test_is_its_definition(task, units, ratio):
    expected = by_hand(task, units, ratio)
    if not expected:
        with pytest.raises(MubenchError, match="no unit at all"):
            make_split(task, ratio, units, "data")
    else:
        assert make_split(task, ratio, units, "data").forget == expected


@given(st.integers(100, 1000), st.permutations(range(1, 11)))
def test_nested_and_independent_of_the_order_of_asking(n, order):
    splits = {ratio: make_split("t", ratio, range(n), "data") for ratio in order}
    assert splits == {ratio: make_split("t", ratio, range(n), "data") for ratio in range(1, 11)}
    for small, large in itertools.pairwise(range(1, 11)):
        assert set(splits[small].forget) <= set(splits[large].forget)


@given(st.integers(20, 1000), RATIOS)
def test_forget_and_retain_are_all_rows_once(n, ratio):
    split = (
        make_split("t", ratio, range(n), "data") if Fraction(ratio) * n >= 50 else make_split("t", 50, range(n), "data")
    )
    assert sorted(split.forget + split.retain) == list(range(n))
    assert list(split.forget) == sorted(split.forget) and list(split.retain) == sorted(split.retain)


@pytest.mark.parametrize(
    "n, ratio, size", [(50, 1, 1), (149, 1, 1), (150, 1, 2), (250, 1, 3), (5000, 5, 250), (7, 50, 4), (1000, "0.25", 3)]
)
def test_sizes_are_exact_halves_up(n, ratio, size):
    assert len(make_split("t", ratio, range(n), "data").forget) == size


@given(PERSONS)
def test_rows_of_a_person_go_together(units):
    units += range(31)
    split = make_split("t", 20, units, "data")
    assert not {units[row] for row in split.forget} & {units[row] for row in split.retain}


@pytest.mark.parametrize("ratio", [0, -1, 60, 50.01, "five", "nan", float("nan"), "inf", float("-inf"), "", None, "5%"])
def test_refuses_a_ratio_that_is_none(ratio):
    with pytest.raises(MubenchError, match=r"ratio .*above 0 and at most 50"):
        make_split("t", ratio, range(100), "data")


@pytest.mark.parametrize("same", [5, 5.0, "5", "5.0", "05", "5e0", " 5 "])
def test_one_name_for_a_ratio(same):
    assert ratio_name(same) == "5" and parse_ratio(same) == 5
    assert ratio_name("0.50") == "0.5" and ratio_name(10) == "10"


def test_the_published_split_never_changes(fashion):
    split = fashion.split(5)
    assert split.forget[:5] == (37, 47, 49, 50, 77) and len(split.forget) == 250
    assert split.checksum == "3c6b8f8f82a859dde6ab37fb991dab1a44847937ef132eedfe8c50842a5577e2"
    assert split.data == "1c7fb3da048c1d1a7312f289eb409e35b03224c3e29411ffcdbc300c56a9f75f"


def test_export_then_check(fashion, tmp_path, cli):
    path = tmp_path / "forget.txt"
    fashion.split(2).export(path)
    fashion.split(2).compare(path)
    assert read_indices(path, 5000) == fashion.split(2).forget == file_split("fashion", path, 5000, "data").forget
    with pytest.raises(MubenchError, match="150 rows missing, 0 rows too many"):
        fashion.split(5).compare(path)

    mine = tmp_path / "mine.txt"
    assert f"forget rows {fashion.split(2).checksum}" in cli("split", "fashion", "--ratio", 2, "--export", mine).out
    assert mine.read_bytes() == path.read_bytes()
    assert hashlib.sha256(mine.read_bytes()).hexdigest() == fashion.split(2).checksum
    assert "is the 2 % split of fashion" in cli("split", "fashion", "--ratio", 2, "--check", mine).out
    assert cli("split", "fashion", "--ratio", 5, "--check", mine).code == 1


def test_export_where_nothing_can_be_written(fashion, tmp_path):
    for path in (tmp_path, tmp_path / "no folder" / "forget.txt"):
        with pytest.raises(MubenchError, match="cannot write"):
            fashion.split(5).export(path)


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"1\n2\nthree\n4\n", "line 3: 'three' is not a row index"),
        (b"1\n-2\n", "line 2: '-2' is not a row index"),
        (b"1\n2.0\n", "line 2"),
        (b"1\n\n2\n", "line 2: '' is not a row index"),
        ("1\n２\n".encode(), "line 2"),  # a digit, but no ASCII digit
        (b"9\n10\n", "line 2: row 10 is out of range, the training set has rows 0 to 9"),
        (b"3\n1\n3\n", "line 3: row 3 is already on line 1"),
        (b"", "is empty"),
        (b"".join(b"%d\n" % row for row in range(10)), "every row"),
        (bytes(range(256)), "no text file"),
        (b"\x93NUMPY\x01\x00", "no text file"),
        (b"\x00\x01\x02", "line 1"),
    ],
)
def test_bad_index_files_are_refused(tmp_path, content, complaint):
    path = tmp_path / "rows.txt"
    path.write_bytes(content)
    with pytest.raises(MubenchError, match=complaint):
        read_indices(path, 10)


def test_no_index_file(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(MubenchError, match="no index file"):
            read_indices(path, 10)


def test_index_files_of_other_hands(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_bytes(b"7\r\n  2\r\n5")  # another system's line ends, unsorted, no last newline
    split = file_split("t", path, 10, "data")
    assert split.forget == (2, 5, 7) and split.retain == (0, 1, 3, 4, 6, 8, 9)
    path.write_bytes(b"2\n5\n7\n")
    assert file_split("t", path, 10, "data") == split  # the rows make the name, not how they are written


def test_refuses_other_rows(fashion):
    split = fashion.split(5)
    changed = load_task("fashion")
    changed.checksum = ""
    data = changed.read()
    data["train"] = data["train"].select([*range(4999), 0])  # as many rows, the last one replaced
    changed.data = data
    from mubench.tasks.base import rows_checksum

    changed._checksums["train"] = rows_checksum(data["train"])
    with pytest.raises(MubenchError, match="was made for 5000 rows with checksum"):
        changed.sets("resnet", split)
    with pytest.raises(MubenchError, match="the data has 10 rows"):
        split.verify(split.data, 10)
