"""How a vendor looks at a picture that it was handed: by address, upload or data URI.

Law: what cannot be looked at without leaving this machine is believed, unless the server was told to fetch.
"""

from __future__ import annotations

import base64
import binascii
import io

import msgspec
from PIL import Image, UnidentifiedImageError


class Picture(msgspec.Struct, frozen=True):
    format: str  # PNG, JPEG, WEBP …
    width: int
    height: int
    size_bytes: int

    @property
    def ratio(self) -> float:
        return self.width / self.height


def look(data: bytes) -> Picture | None:
    """What the bytes show; None when they are no picture."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return Picture(image.format or "", image.width, image.height, len(data))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError):
        return None


def from_data_uri(text: str) -> bytes | None:
    """The bytes of a base64 data URI; None when it is none."""
    head, comma, body = text.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64") or not comma:
        return None
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        return None
