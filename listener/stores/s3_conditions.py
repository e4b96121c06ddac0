"""Writes that carry a condition. What else obstore raises is the caller's to translate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store as Bucket

from listener.stores.s3_errors import error_code
from listener.stores.s3_metadata import etag_of

if TYPE_CHECKING:
    from obstore import Attributes, PutMode


class ConditionalWrites:
    """To servers that do not know conditions everything is written as it is."""

    def __init__(self) -> None:
        self._unknown = False

    async def put_if(
        self, client: Bucket, path: str, data: bytes, attributes: Attributes, expected: str | None
    ) -> str | None:
        """Writes `data` if the ETag at `path` is `expected` (None: nothing is there); the new ETag, None: it is not."""
        mode: PutMode = "create" if expected is None else {"e_tag": f'"{expected}"'}
        if self._unknown:
            mode = "overwrite"
        try:
            return etag_of(await obstore.put_async(client, path, data, attributes=attributes, mode=mode))
        except (AlreadyExistsError, PreconditionError) as e:
            if error_code(e) == "NoSuchBucket":
                raise
            return None
        except (BaseError, FileNotFoundError) as e:
            code = error_code(e)
            if code == "NoSuchKey":
                return None
            if code != "NotImplemented" or self._unknown:
                raise
        self._unknown = True
        return await self.put_if(client, path, data, attributes, expected)
