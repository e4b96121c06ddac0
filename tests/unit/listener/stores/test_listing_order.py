from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from listener.stores.s3.listings import is_past, obstore_can_list, offset_before

names = st.text("ab-./0~ é\ufffe😀", min_size=1, max_size=8)


def as_a_tree(key: str) -> list[bytes]:
    return [part.encode() for part in key.split("/")]


@given(names, names)
def test_a_listing_begins_before_all_that_lies_below_a_prefix(prefix: str, rest: str) -> None:
    start = offset_before(prefix)
    if start is not None and obstore_can_list(prefix):
        assert start.encode() < prefix.encode()
        assert as_a_tree(start) < as_a_tree(prefix + rest)


@given(st.text("ab-.0", min_size=1, max_size=3), st.text("ab-.0", min_size=1, max_size=3), st.lists(names, max_size=8))
def test_a_listing_ends_only_behind_all_that_lies_below_a_prefix(folder: str, name: str, keys: list[str]) -> None:
    """Whether the server orders keys by bytes, or names within each folder."""
    below = [f"{folder}/{key}" for key in [*keys, name, name + "x", name + "/x", name + "-/x"]]
    for order in (str.encode, as_a_tree):
        ordered = sorted(below, key=order)
        for i, key in enumerate(ordered):
            if is_past(key, folder, name):
                assert not any(later.startswith(f"{folder}/{name}") for later in ordered[i:])


def test_without_a_name_a_listing_ends_with_the_folder() -> None:
    assert not is_past("a/zzz", "a", "")
    assert not is_past("zzz", "", "")
    assert is_past("a/c", "a", "b")
    assert is_past("c", "", "b")
