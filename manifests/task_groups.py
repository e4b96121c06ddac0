"""Concurrent work that raises one error instead of a group of errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from manifests.error_classes import decisive_error

T = TypeVar("T")


@asynccontextmanager
async def task_group() -> AsyncGenerator[asyncio.TaskGroup]:
    """Runs asyncio's TaskGroup: the first failure cancels the other tasks. Raises the deciding error itself."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        decided = decisive_error(_leaves(errors))
        raise decided from decided.__cause__


async def gather_all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Runs all of `works` to their end; returns the results in order, or raises the deciding error."""
    results = await asyncio.gather(*works, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise decisive_error(errors)
    return cast("list[T]", results)


def _leaves(error: BaseException) -> Sequence[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for each in group.exceptions for leaf in _leaves(each)]
