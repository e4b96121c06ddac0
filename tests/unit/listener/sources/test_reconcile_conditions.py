from __future__ import annotations

from listener.sources.base import Condition
from listener.sources.reconcile.lister import BucketConditions, BucketListed
from manifests.errors import StoreDenied, StoreUnavailable


def test_a_listing_is_told_with_its_figures() -> None:
    assert BucketConditions().listed("a", BucketListed(12345, 0, 1.26)) == Condition(
        True, "12,345 objects in 1 bucket listed in 1.3 s"
    )


def test_several_buckets_are_told_as_one() -> None:
    conditions = BucketConditions()
    conditions.listed("a", BucketListed(1, 2, 0.1))
    told = conditions.listed("b", BucketListed(2, 0, 0.2))
    assert told == Condition(True, "3 objects in 2 buckets listed in 0.3 s, 2 keys unusable")


def test_trouble_in_one_bucket_stays_until_that_bucket_is_listed() -> None:
    conditions = BucketConditions()
    assert conditions.failed("a", StoreDenied("no", hint="Grant it.")) == Condition(
        False, "no", "store_denied", "Grant it."
    )
    assert not conditions.listed("b", BucketListed(1, 0, 0.1)).ok
    both = conditions.failed("b", StoreUnavailable("away"))
    assert both.detail == "no (and 1 bucket more)"
    assert conditions.listed("a", BucketListed(1, 0, 0.1)).detail == "away"
    assert conditions.listed("b", BucketListed(1, 0, 0.1)).ok


def test_a_bucket_that_is_gone_is_no_trouble_any_longer() -> None:
    conditions = BucketConditions()
    conditions.listed("a", BucketListed(1, 0, 0.1))
    conditions.failed("b", StoreDenied("no"))
    assert conditions.gone("b") == Condition(True, "1 object in 1 bucket listed in 0.1 s")
