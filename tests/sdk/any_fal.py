"""fal's Python client fetches one clip of each model that it is given; prints a JSON line for each.

Usage: FAL_KEY=… FAL_QUEUE_RUN_HOST=… FAL_RUN_HOST=… SSL_CERT_FILE=… python any_fal.py MODEL …
"""

from __future__ import annotations

import json
import sys
import urllib.request

import fal_client

for model in sys.argv[1:]:
    handle = fal_client.submit(f"filmgate/{model}", {"prompt": "a kite", "duration": "5"})
    try:
        result, error = handle.get(interval=0.1), None
        with urllib.request.urlopen(result["video"]["url"]) as answer:
            clip = answer.read()
    except fal_client.FalClientHTTPError as refused:
        clip, error = b"", str(refused)
    print(json.dumps({"name": model, "id": handle.request_id, "start": clip[4:8].decode("latin-1"), "error": error}))
