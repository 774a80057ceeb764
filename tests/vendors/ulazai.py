"""UlazAI, as its clients see it: Video Studio's submit, status and history, and its list of models.

Law: `success` is about the call; a job that failed answers 200 with `success: true`. A path without its last slash is a
redirect (Django's APPEND_SLASH; inferred), and a POST that follows it arrives as a GET. Sources: ulazai.com/docs
(video-api, video-status-workflows, video-errors-limits, kling30; read 2026-11-23). What no source tells is marked
"inferred": the words of complaints, the history's shape, credits of std with sound and pro without.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import uuid
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from tests.vendors import kit, pictures
from tests.vendors.kit import Phase, Render
from tests.vendors.process import serve
from tests.vendors.script import Act, Family, Op, Verb
from tests.vendors.server import Options, Vendor
from tests.vendors.wire import Reply, Request, json_reply

POSTS_PER_HOUR = 24
RATIOS = ("16:9", "9:16", "1:1")
SECONDS = range(3, 16)
SHORT_SIDES = {"std": 720, "pro": 1080}  # Kling's own; inferred
_CREDITS = {
    ("std", False): 20,
    ("std", True): 30,
    ("pro", False): 27,
    ("pro", True): 40,
}  # a second; the inner two: inferred
_WORDS = {
    400: "Invalid request",
    401: "Authentication required",
    402: "Insufficient credits",
    403: "This endpoint is disabled",
    404: "Not found",
    429: "Rate limit exceeded",
    500: "Upstream provider error",
}
_PHASES = {Phase.QUEUED: "pending", Phase.RUNNING: "processing"}


class Job:
    """One paid job."""

    def __init__(self, *, body: dict[str, Any], base: str, created_us: int, render: Render, fate: Act | None) -> None:
        self.id = str(uuid.uuid4())
        self.body = body
        self.base = base
        self.created_us = created_us
        self.render = render
        self.fate = fate
        self.end: dict[str, Any] | None = None
        self.lock = asyncio.Lock()
        self._oddities = fate.count if fate and fate.verb in (Verb.INVENTED_STATUS, Verb.RESULT_MISSING) else 0

    @property
    def credits(self) -> int:
        seconds: int = self.body.get("duration_seconds", 5)
        return seconds * _CREDITS[self.body["quality_mode"], bool(self.body.get("sound", False))]

    @property
    def frames(self) -> list[str]:
        """Its pictures, the first frame first."""
        return [url for url in (self.body.get("start_frame_url"), *self.body.get("input_image_urls", ())) if url]

    def spends_oddity(self, verb: Verb) -> bool:
        if self.fate is None or self.fate.verb is not verb or not self._oddities:
            return False
        self._oddities -= 1
        return True

    def told(self, status: str, **more: Any) -> dict[str, Any]:
        mode = "image_to_video" if self.frames else "text_to_video"
        known = {"job_id": self.id, "model_slug": self.body["model_slug"], "mode": mode, "status": status}
        return known | {"created_at": _iso(self.created_us)} | more


class UlazServer(Vendor):
    """Video Studio."""

    name: ClassVar[str] = "ulazai"
    id_fields: ClassVar[frozenset[str]] = frozenset({"job_ids"})
    cancel_taken: ClassVar[Reply] = Reply(status=404)  # there is no cancel

    def __init__(self, folder: Path, options: Options | None = None, *, posts_per_hour: int | None = None) -> None:
        """`posts_per_hour`: POSTS_PER_HOUR as UlazAI has it; None: no limit, for tests of something else."""
        super().__init__(folder, options)
        self.jobs: dict[str, Job] = {}
        self._posts_per_hour = posts_per_hour
        self._posts: dict[str, list[float]] = {}

    def words(self, status: int, act: Act | None = None) -> Reply:
        return json_reply(
            {"success": False, "error": (act and act.message) or _WORDS.get(status, f"Error {status}")}, status
        )

    # --- routes ---------------------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply:
        if request.path.startswith("/api/") and not request.path.endswith("/"):
            return Reply(status=301, headers={"location": f"{request.path}/"})
        key = kit.bearer(request.headers, "bearer")
        if key is None or (self.options.keys and key not in self.options.keys):
            return self.words(401)
        match request.method, request.path.strip("/").split("/"):
            case "POST", ["api", "v1", "video-studio", "generate"]:
                return await self._generate(request, key)
            case "GET", ["api", "v1", "video-studio", "status", id]:
                job = self.jobs.get(id)
                endpoint = job.body["model_slug"] if job else ""
                return await self.perform(Op.STATUS, endpoint, lambda: self._status(job))
            case "GET", ["api", "v1", "video-studio", "history"]:
                return await self.perform(Op.LIST, "", lambda: self._history(request))
            case "GET", ["api", "v1", "models", "video"]:
                known = {"slug": "kling_3_0", "aspect_ratios": list(RATIOS), "durations": list(SECONDS)}
                return json_reply({"success": True, "models": [known | {"quality_modes": list(SHORT_SIDES)}]})
        return self.words(404)

    async def _generate(self, request: Request, key: str) -> Reply:
        try:
            body = request.json()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._refuse(400, "The body is not JSON")
        if not isinstance(body, dict):
            return self._refuse(400, "The body is not an object")
        slug = body.get("model_slug")
        return await self.perform(Op.SUBMIT, str(slug or ""), lambda: self._submit(request, body, key))

    def _refuse(self, status: int, text: str) -> Reply:
        return self.words(status, Act(verb=Verb.STATUS, message=text))

    async def _submit(self, request: Request, body: dict[str, Any], key: str) -> Reply:
        now = self.clock.now()
        recent = self._posts[key] = [at for at in self._posts.get(key, []) if now - at < 3600]
        if self._posts_per_hour is not None and len(recent) >= self._posts_per_hour:
            return self.words(429)
        recent.append(now)
        if body.get("model_slug") != "kling_3_0":
            return self._refuse(404, "Unknown model slug")
        if wrong := complaint(body):
            return self._refuse(400, wrong)
        fate = self.script.take(Op.SUBMIT, "kling_3_0", Family.JOB)
        pace = kit.Pace(seconds=fate.seconds) if fate and fate.verb is Verb.RENDER else self.options.pace
        render = Render(self.clock, pace, stuck=fate is not None and fate.verb is Verb.STUCK)
        base = f"http://{request.headers.get('host', '')}"
        job = Job(body=body, base=base, created_us=self.clock.now_us(), render=render, fate=fate)
        account = hashlib.sha256(key.encode()).hexdigest()[:12]
        endpoint = f"kling_3_0/{body['quality_mode']}"
        self.bill(kit.accepted(request=request, id=job.id, endpoint=endpoint, account=account, at_us=job.created_us))
        self.jobs[job.id] = job
        self.renders[job.id] = render
        self.spawn(render.run())
        return json_reply({"success": True, "job_ids": [job.id], "credits_charged": job.credits})

    # --- jobs -----------------------------------------------------------------------------------------------------

    async def _status(self, job: Job | None) -> Reply:
        if job is None or job.spends_oddity(Verb.RESULT_MISSING):
            return self._refuse(404, "Job not found")
        phase = job.render.poll()
        if job.fate is not None and job.spends_oddity(Verb.INVENTED_STATUS):
            return json_reply({"success": True, "job": job.told(job.fate.word or "merging")})
        told = await self._end(job) if phase is Phase.DONE else job.told(_PHASES[phase])
        return json_reply({"success": True, "job": told})

    async def _history(self, request: Request) -> Reply:
        """The latest first. The shape of the answer is inferred."""
        limit = request.first("limit", "20")
        wanted = list(self.jobs.values())[::-1][: int(limit) if limit.isdigit() else 20]
        told = [
            await self._end(job) if job.render.phase is Phase.DONE else job.told(_PHASES[job.render.phase])
            for job in wanted
        ]
        return json_reply({"success": True, "jobs": told})

    async def _end(self, job: Job) -> dict[str, Any]:
        async with job.lock:
            if job.end is None:
                job.end = await self._judge(job)
            return job.end

    async def _judge(self, job: Job) -> dict[str, Any]:
        fate = job.fate
        if fate is not None and fate.verb in (Verb.FAIL_RENDER, Verb.FAIL_RESULT):
            # how a moderation is told is not documented: it fails like anything else
            text = fate.message or "The provider could not generate this video"
            return job.told("failed", error_message=text, credits_refunded=True)
        seen = None
        for url in job.frames:
            try:
                data = await self.picture(url)
            except OSError:
                return job.told("failed", error_message="An image could not be fetched", credits_refunded=True)
            look = None if data is None else pictures.look(data)
            if data is not None and look is None:
                return job.told("failed", error_message="An image could not be read", credits_refunded=True)
            seen = seen or look
        width, _, height = job.body.get("aspect_ratio", "16:9").partition(":")
        seconds = job.body.get("duration_seconds", 5)
        clip = await self.film(
            seconds=seconds,
            ratio=seen.ratio if seen is not None else int(width) / int(height),
            short_side=SHORT_SIDES[job.body["quality_mode"]],
            audio=bool(job.body.get("sound", False)),
        )
        urls = [job.base + self.keep("video/mp4", clip, "result.mp4")]
        if fate is not None and fate.verb is Verb.RESULT_WITHOUT_FILE:
            urls = []
        after = job.render.ended_after or 0.0
        return job.told(
            "completed",
            result_urls=urls,
            credits_charged=job.credits,
            provider_meta={"effective_duration_seconds": seconds, "quality_mode": job.body["quality_mode"]},
            completed_at=_iso(job.created_us + int(after * 1_000_000)),
        )


def complaint(body: dict[str, Any]) -> str | None:
    """What is wrong with a request; None when nothing is. Fields that it does not know pass unread (inferred)."""
    prompt, seconds = body.get("prompt"), body.get("duration_seconds", 5)
    if not isinstance(prompt, str) or not prompt or len(prompt) > 2500:
        return "A prompt of at most 2500 characters is required"
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds not in SECONDS:
        return "Invalid duration for this model"
    if body.get("quality_mode") not in SHORT_SIDES:
        return "quality_mode is required: std or pro"
    for name in ("sound", "prompt_directory_optin"):
        if not isinstance(body.get(name, False), bool):
            return f"{name} must be a boolean"
    framed = [body[name] for name in ("start_frame_url", "end_frame_url") if name in body]
    if "aspect_ratio" in body and (framed or body["aspect_ratio"] not in RATIOS):
        return "Invalid aspect_ratio"
    listed = body.get("input_image_urls", [])
    if not isinstance(listed, list) or not all(_is_address(url) for url in (*framed, *listed)):
        return "Invalid image URL"
    return None


def _is_address(url: Any) -> bool:
    return isinstance(url, str) and urlsplit(url).scheme in ("http", "https")


def _iso(at_us: int) -> str:
    return datetime.datetime.fromtimestamp(at_us / 1_000_000, datetime.UTC).isoformat()


if __name__ == "__main__":
    serve(UlazServer)
