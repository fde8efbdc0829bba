"""Random numbers that depend on what they are for alone: not on threads, processes or interruptions."""

import hashlib


def chance(*what: object) -> int:
    """A seed of 64 bits for this purpose, e.g. `chance(seed, epoch, key, "caption")`."""
    digest = hashlib.blake2b("\0".join(map(str, what)).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())


def key_of(content: bytes | memoryview) -> int:
    """A number of 64 bits with sign, equal for equal content."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)
