"""fal's own Python client, sent to a gateway by its environment alone; prints what it saw, a JSON line for each scene.

Usage: FAL_KEY=… FAL_QUEUE_RUN_HOST=… FAL_RUN_HOST=… SSL_CERT_FILE=… python fal_judge.py PICTURE_URL [SCENE …]
Law: nothing of the client is changed, but in `uploads`, whose two hosts it has no variable for.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import fal_client

TEXT = "fal-ai/kling-video/v3/pro/text-to-video"
PICTURE = "fal-ai/kling-video/v3/pro/image-to-video"
INPUT = {"prompt": "a cat", "duration": "5", "generate_audio": False}


def guide() -> dict[str, Any]:
    """The example of Kling's guide, byte for byte; only the picture's address is the test's own."""
    result = fal_client.run(
        "fal-ai/kling-video/v3/pro/image-to-video",
        arguments={
            "image_url": sys.argv[1],
            "prompt": "The camera slowly pushes in while the wind moves the grass",
            "duration": "8",
            "aspect_ratio": "16:9",
        },
    )
    return {"result": result}


def submit_status_result() -> dict[str, Any]:
    handle = fal_client.submit(TEXT, INPUT, hint="a-runner", priority="low", start_timeout=30)
    events: list[Any] = list(handle.iter_events(with_logs=True, interval=0.01))
    by_id = fal_client.status(TEXT, handle.request_id, with_logs=True)
    return {
        "statuses": [type(event).__name__ for event in events],
        "logs": events[-1].logs,
        "metrics": events[-1].metrics,
        "by_id": type(by_id).__name__,
        "same": fal_client.result(TEXT, handle.request_id).keys() == handle.get(interval=0.01).keys(),
        "result": handle.get(interval=0.01),
    }


def subscribe() -> dict[str, Any]:
    seen: list[str] = []

    def note(status: fal_client.Status) -> None:
        seen.append(type(status).__name__)

    result = fal_client.subscribe(TEXT, INPUT, with_logs=True, on_queue_update=note, interval=0.01)
    return {"result": result, "statuses": seen}


def asynchronous() -> dict[str, Any]:
    async def all_of_it() -> dict[str, Any]:
        client = fal_client.AsyncClient()
        handle = await client.submit(TEXT, INPUT)
        statuses = [type(event).__name__ async for event in handle.iter_events(interval=0.01)]
        result = await client.result(TEXT, handle.request_id)
        run, subscribed = await asyncio.gather(
            client.run(TEXT, INPUT | {"prompt": "a dog"}),
            client.subscribe(TEXT, INPUT | {"prompt": "a horse"}, interval=0.01),
        )
        cancelled = await client.submit(TEXT, INPUT | {"duration": "15"})
        await client.cancel(TEXT, cancelled.request_id)
        return {"statuses": statuses, "result": result, "run": run, "subscribed": subscribed}

    return asyncio.run(all_of_it())


def cancel() -> dict[str, Any]:
    handle = fal_client.submit(TEXT, INPUT | {"duration": "15"})
    handle.cancel()
    status: Any = list(handle.iter_events(interval=0.01))[-1]
    try:
        handle.get(interval=0.01)
    except fal_client.FalClientHTTPError as error:
        return {"error_type": status.error_type, "result": {"status": error.status_code, "type": error.error_type}}
    return {"error_type": status.error_type, "result": None}


def cancel_too_late() -> dict[str, Any]:
    handle = fal_client.submit(TEXT, INPUT)
    handle.get(interval=0.01)
    try:
        handle.cancel()
    except fal_client.FalClientHTTPError as error:
        return {"status": error.status_code, "body": error.response.json()}
    return {}


def refusals() -> dict[str, Any]:
    found = {}
    for name, endpoint, arguments in (
        ("duration", TEXT, INPUT | {"duration": "99"}),
        ("picture", PICTURE, INPUT),
        ("endpoint", "fal-ai/nothing-like-it", INPUT),
    ):
        try:
            fal_client.submit(endpoint, arguments)
        except fal_client.FalClientHTTPError as error:
            found[name] = {"status": error.status_code, "message": error.message, "type": error.error_type}
    try:
        fal_client.SyncClient(key="nonsense").submit(TEXT, INPUT)
    except fal_client.FalClientHTTPError as error:
        found["key"] = {"status": error.status_code, "message": error.message, "type": error.error_type}
    return found


def uploads() -> dict[str, Any]:
    import fal_client.client as inner
    from PIL import Image

    inner.REST_URL = inner.CDN_URL = f"https://{os.environ['FAL_QUEUE_RUN_HOST']}"
    address = fal_client.upload_image(Image.new("RGB", (640, 360), (200, 120, 40)), format="png")
    result = fal_client.subscribe(PICTURE, INPUT | {"start_image_url": address}, interval=0.01)
    old_way = fal_client.SyncClient().upload(
        open_picture(), "image/png", "b.png", repository="fal", fallback_repository=[]
    )
    return {"address": address, "result": result, "old_way": old_way}


def open_picture() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (400, 400), (20, 120, 40)).save(file, "PNG")
    return file.getvalue()


SCENES = (guide, submit_status_result, subscribe, asynchronous, cancel, cancel_too_late, refusals, uploads)

if __name__ == "__main__":
    wanted = sys.argv[2:]
    for scene in SCENES:
        if not wanted or scene.__name__ in wanted:
            print(json.dumps({"name": scene.__name__, **scene()}), flush=True)
