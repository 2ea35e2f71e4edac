"""Content hashes that name an image, a checkpoint folder and a request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

_SORTED = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # kept: each sample has a key


def image_key(encoded: Sequence[bytes]) -> str:
    """sha256 of one encoded image, or of the hashes of several; "" for none."""
    return images_key([hashlib.sha256(data).hexdigest() for data in encoded])


def images_key(hashes: Sequence[str]) -> str:
    """`image_key` of images by their hashes."""
    if len(hashes) < 2:
        return "".join(hashes)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def json_key(parts: Mapping[str, object]) -> str:
    """sha256 of a mapping as sorted JSON."""
    return hashlib.sha256(_SORTED.encode(parts).encode()).hexdigest()


def bytes_key(chunks: Iterable[bytes]) -> str:
    """sha256 of a stream."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
