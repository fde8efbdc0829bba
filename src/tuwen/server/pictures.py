"""A picture as it stands in a request: base64, a data URL of it, or its address where addresses are fetched."""

import base64
import binascii

from tuwen.server.faults import Fault, invalid
from tuwen.server.service import Service


async def data_of(text: str, service: Service) -> bytes:
    """The bytes of a picture in a request.

    Raises:
        Fault: 403, addresses are not fetched here; 413, it is too long; 422, it is no picture's bytes, or cannot be
            fetched.
    """
    if text.startswith(("http://", "https://")):
        if service.fetcher is None:
            raise Fault(403, "no_urls", "pictures are fetched where the service runs with --allow-url")
        return await service.fetcher.fetch(text)
    if len(text) > 4 * service.config.max_picture // 3 + 256:
        raise Fault(413, "too_large", f"a picture may have {service.config.max_picture:,} bytes")
    return decoded(text)


def decoded(text: str) -> bytes:
    """The bytes behind base64, or behind a data URL.

    Raises:
        Fault: 422, it is neither.
    """
    body = text
    if text.startswith("data:"):
        head, comma, body = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise invalid("a picture's data URL must look like data:image/jpeg;base64,…")
    try:
        return base64.b64decode(body.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise invalid("a picture must be base64, or a data URL of it") from None
