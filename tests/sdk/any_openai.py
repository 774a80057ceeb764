"""OpenAI's Python client fetches one clip of each model that it is given; prints a JSON line for each.

Usage: OPENAI_BASE_URL=… OPENAI_API_KEY=… SSL_CERT_FILE=… python any_openai.py MODEL …
"""

from __future__ import annotations

import json
import sys
import warnings

warnings.simplefilter("ignore", DeprecationWarning)

from openai import OpenAI  # noqa: E402 (it warns when it is imported, too)

client = OpenAI()
for model in sys.argv[1:]:
    made = client.videos.create(model=model, prompt="a kite", seconds="5")  # type: ignore[arg-type]
    video = client.videos.poll(made.id, poll_interval_ms=100)
    clip = client.videos.download_content(video.id).content if video.status == "completed" else b""
    error = video.error.message if video.error else None
    print(json.dumps({"name": model, "id": video.id, "start": clip[4:8].decode("latin-1"), "error": error}))
