"""The options of a clip as the public request's fields: the form that any caller would send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


def form_of(
    *,
    picture: str,
    prompt: str,
    model: str,
    last_frame: Path | None,
    audio: bool | None,
    sort: str | None,
    max_price: float | None,
    p90: float | None,
    only: tuple[str, ...],
    ignore: tuple[str, ...],
    **plain: Any,
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Fields and files of `POST /v1/videos`. A picture's path must exist; `-` is no picture."""
    form: dict[str, Any] = {"model": model, "prompt": prompt}
    form |= {name: value for name, value in plain.items() if value is not None}
    if audio is not None:
        form["generate_audio"] = audio
    provider: dict[str, Any] = {}
    if sort:
        provider["sort"] = sort
    if max_price is not None:
        provider["max_price"] = {"request": max_price}
    if p90 is not None:
        provider["preferred_max_latency"] = {"p90": p90}
    if only:
        provider["only"] = list(only)
    if ignore:
        provider["ignore"] = list(ignore)
    if provider:
        form["provider"] = provider
    files: dict[str, Path] = {}
    if picture.startswith(("http://", "https://")):
        form["input_reference"] = {"image_url": picture}
    elif picture != "-":
        files["input_reference"] = Path(picture)
        if not files["input_reference"].is_file():
            raise click.UsageError(f"there is no picture {picture!r}; give a file, an https address, or - for none")
    if last_frame is not None:
        form["frame_images[0][frame_type]"] = "last_frame"
        files["frame_images[0][image_url]"] = last_frame
    return form, files
