"""The figures say what happened, once each; whoever may not read them does not; callers can make no series."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed

from gateway import app, keys
from gateway.keys import Terms
from gateway.meter import Meter
from gateway.metrics import MOST_CODES, Metrics
from gateway.settings import Server, Settings, load
from providers.spec import Secret
from tests.house import KEY, ROOT, free_port, house, written
from tests.test_money import CHEAP, MAIN, SPARE
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.script import act
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio
AT = {"provider": "fal", "backend": "fal/kling-v3-pro"}
AT_SPARE = {"provider": "fal", "backend": "fal/spare"}


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.05))) as server:
        yield server


class Page:
    """One scrape, read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [sample for family in parsed(text) for sample in family.samples]

    def get(self, name: str, **labels: str) -> float:
        """The one sample of this name with these labels; 0 where there is none."""
        found = [one.value for one in self.samples if one.name == f"filmgate_{name}" and one.labels == labels]
        assert len(found) <= 1
        return found[0] if found else 0.0

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """Every sample of this name that is not 0, by its labels' values in the order of their names."""
        found = [one for one in self.samples if one.name == f"filmgate_{name}" and one.value]
        return {tuple(one.labels[label] for label in sorted(one.labels)): one.value for one in found}

    def series(self) -> set[tuple[Any, ...]]:
        return {(one.name, *sorted(one.labels.items())) for one in self.samples}


async def scraped(http: httpx.AsyncClient) -> Page:
    reply = await http.get("/metrics", headers={"authorization": ""})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return Page(reply.text)


async def until(http: httpx.AsyncClient, is_so: Callable[[Page], bool]) -> Page:
    """The first scrape of which this is so; raises TimeoutError."""
    async with asyncio.timeout(10):
        while True:
            if is_so(page := await scraped(http)):
                return page
            await asyncio.sleep(0.02)


# --- what is counted --------------------------------------------------------------------------------------------------


async def test_each_event_of_a_good_and_three_bad_days_is_counted_once(fal: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", fal.url, unknown_after_seconds=0.5) as gateway:
        await gateway.ended((await gateway.create(seconds=5))["id"])
        fal.say(act("fail_render", endpoint=MAIN, word="runner_disconnected"))
        await gateway.ended((await gateway.create(seconds=5))["id"])
        fal.say(act("status", status=500))
        await gateway.ended((await gateway.create(seconds=5))["id"])
        refused = await gateway.http.post(
            "/v1/videos", json={"model": "kling-v3-pro", "prompt": "a lighthouse", "seconds": 99}
        )
        page = await scraped(gateway.http)

    assert refused.status_code == 422
    assert page.all("jobs_accepted_total") == {("false",): 3}
    assert page.all("jobs_ended_total") == {("", "completed", "false"): 2, ("outcome_unknown", "failed", "false"): 1}
    assert page.all("submits_total") == {
        (AT["backend"], "accepted", "fal"): 2,
        (AT["backend"], "unknown", "fal"): 1,
        (AT_SPARE["backend"], "accepted", "fal"): 1,
    }
    assert page.all("unknowns_resolved_total") == {(AT["backend"], "written_off", "fal"): 1}
    ends = {end[:2]: count for end, count in page.all("attempts_ended_total").items()}
    assert ends == {
        (AT["backend"], "succeeded"): 1,
        (AT["backend"], "failed"): 1,
        (AT["backend"], "written_off"): 1,
        (AT_SPARE["backend"], "succeeded"): 1,
    }
    assert page.get("spend_usd_total", known="true", **AT) == pytest.approx(CHEAP / 1e6)
    assert page.get("spend_usd_total", known="true", **AT_SPARE) == pytest.approx(SPARE / 1e6)
    assert page.get("spend_usd_total", known="false", **AT) == pytest.approx(CHEAP / 1e6)
    assert page.get("render_seconds_count", **AT) == page.get("render_seconds_count", **AT_SPARE) == 1
    assert page.get("queue_seconds_count") == 3
    assert page.get("decision_seconds_count") == 4
    assert page.get("requests_refused_total", code=refused.json()["error"]["code"]) == 1
    assert page.get("request_seconds_count", method="POST", route="/v1/videos", status="2xx") == 3
    assert page.get("request_seconds_count", method="POST", route="/v1/videos", status="4xx") == 1
    assert page.get("store_write_seconds_count") >= 3 + 4 * 2
    assert page.get("step_lag_seconds_count") >= 6


async def test_a_scrape_tells_how_things_stand(fal: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", fal.url, on_unknown="hold") as gateway:
        fal.say(act("status", status=500))
        await gateway.create(seconds=5)
        await until(gateway.http, lambda page: page.get("attempts_open", state="unknown", **AT) == 1)
        fal.say(act("stuck"))
        await gateway.create(seconds=5)
        page = await until(gateway.http, lambda page: page.get("attempts_open", state="running", **AT) == 1)

    assert page.get("attempts_open", state="unknown", **AT) == 1
    assert page.get("jobs", state="active", test="false") == 2
    assert page.get("jobs", state="queued", test="false") == 0
    assert page.get("reserved_usd", **AT) == pytest.approx(2 * CHEAP / 1e6)
    assert page.get("slots_in_use", provider="fal") == 2
    assert page.get("slots_limit", provider="fal") >= 50
    assert page.get("backend_available", **AT) == 1
    assert page.get("account_available", provider="fal", account="main") == 1
    assert page.get("price_usd_per_second", resolution="1080p", audio="false", **AT) == pytest.approx(0.112)
    assert page.get("price_usd_per_second", resolution="1080p", audio="true", **AT_SPARE) == pytest.approx(0.18)
    assert page.get("price_age_seconds", **AT) > 0
    assert page.get("store_writable") == 1


async def test_a_replay_is_no_second_job(fal: FalServer, tmp_path: Path) -> None:
    async with service(tmp_path, fal) as (gateway, client):
        key = await new_key(gateway, "team")
        form = {"model": "kling-v3-pro", "prompt": "a lighthouse", "seconds": 5}
        ask = {"idempotency-key": "the same"}
        answers = [await client(key.text).post("/v1/videos", json=form, headers=ask) for _ in range(3)]
        page = Page(gateway.rooms.scrape("")[0].decode())

    assert len({answer.json()["id"] for answer in answers}) == 1
    assert page.all("jobs_accepted_total") == {("false",): 1}
    assert page.get("request_seconds_count", method="POST", route="/v1/videos", status="2xx") == 3


async def test_a_webhook_is_late_by_the_time_since_its_event(fal: FalServer, tmp_path: Path) -> None:
    with Receiver(500) as receiver:
        quick = "[webhooks]\nretry_seconds = [0.1, 0.1]"
        async with house(tmp_path / "house", fal.url, tables=quick) as gateway:
            await gateway.ended((await gateway.create(seconds=5, callback_url=f"{receiver.url}/hook"))["id"])
            page = await until(gateway.http, lambda page: page.get("delivery_lag_seconds_count") > 0)

    assert page.all("webhook_tries_total") == {("due",): 1, ("delivered",): 1}
    assert page.get("delivery_lag_seconds_count") == 1
    assert page.get("delivery_lag_seconds_sum") > 0.08


async def test_a_loop_that_was_held_up_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.metrics.LOOK_SECONDS", 0.01)
    counted = Metrics()
    watching = asyncio.create_task(counted.watch_loop())
    await asyncio.sleep(0)

    time.sleep(0.15)  # noqa: ASYNC251 — the very thing that is measured
    await asyncio.sleep(0.01)
    watching.cancel()

    page = Page(counted.page("")[0].decode())
    assert page.get("event_loop_lag_seconds_sum") > 0.1


async def test_what_test_keys_do_is_no_money_and_no_news_of_a_vendor(fal: FalServer, tmp_path: Path) -> None:
    async with service(tmp_path, fal) as (gateway, client):
        test_key = keys.make("ci", now_us=1, random=secrets.token_bytes(keys.RANDOM_BYTES), test=True)
        await gateway.store.create_key(test_key.key)
        await made(gateway, client(test_key.text), 1)
        page = Page(gateway.rooms.scrape("")[0].decode())

    assert page.all("jobs_accepted_total") == {("true",): 1}
    assert page.all("jobs_ended_total") == {("", "completed", "true"): 1}
    for name in ("submits_total", "attempts_ended_total", "spend_usd_total", "render_seconds_count", "reserved_usd"):
        assert page.all(name) == {}, name


def test_a_process_begins_at_nothing_and_codes_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MOST_CODES + 50):
        metrics.answered("GET", "/v1/videos", 400, 0.01, f"code_{number}")

    page = Page(metrics.page("")[0].decode())

    assert len(page.all("requests_refused_total")) == MOST_CODES + 1
    assert page.get("requests_refused_total", code="other") == 50
    assert Page(Metrics().page("")[0].decode()).all("requests_refused_total") == {}


async def test_readme_names_every_series_and_no_other(fal: FalServer, tmp_path: Path) -> None:
    async with service(tmp_path, fal) as (gateway, _):
        text = gateway.rooms.scrape("")[0].decode()

    ours = {family.name for family in parsed(text) if family.name.startswith("filmgate_")}
    table = re.findall(r"^\| `(filmgate_\w+)` \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(ours)


def test_everything_that_can_be_told_is_heard() -> None:
    told = {name for name in vars(Meter) if not name.startswith("_")}

    assert told <= set(vars(Metrics))


# --- no series by callers ---------------------------------------------------------------------------------------------


async def test_three_hundred_jobs_of_twenty_keys_add_no_series(fal: FalServer, tmp_path: Path) -> None:
    async with service(tmp_path, fal) as (gateway, client):
        all_keys = [await new_key(gateway, f"team-{number}") for number in range(20)]
        for method in ("GET", "BREW"):
            await client(all_keys[0].text).request(method, "/nowhere/0")
        await made(gateway, client(all_keys[0].text), 1)
        before = Page(gateway.rooms.scrape("")[0].decode()).series()

        await asyncio.gather(*(made(gateway, client(key.text), 15) for key in all_keys))
        for number in range(50):
            await client(all_keys[1].text).request(("GET", f"BREW{number}")[number % 2], f"/nowhere/{number}")
        page = Page(gateway.rooms.scrape("")[0].decode())

    assert page.get("jobs_ended_total", outcome="completed", code="", test="false") == 301
    assert page.series() == before
    assert not any(word in page.text for word in ("video_", "att_", "team-", "kite", *(key.key.id for key in all_keys)))


# --- who may read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "host", "is_open"),
    [
        (Server(host="127.0.0.1"), "127.0.0.1:8080", True),
        (Server(host="::1"), "[::1]:8080", True),
        (Server(host="127.0.0.1"), "localhost", True),
        (Server(host="192.0.2.7"), "127.0.0.1:8080", False),
        (Server(host="127.0.0.1", public_url="https://video.example.com"), "127.0.0.1:8080", False),
        (Server(host="127.0.0.1"), "rebound.example.com", False),
        (Server(host="127.0.0.1"), "[::1", False),
    ],
)
async def test_without_a_key_only_where_nobody_else_can_ask(
    server: Server, host: str, is_open: bool, fal: FalServer, tmp_path: Path
) -> None:
    async with service(tmp_path, fal, server=server) as (gateway, client):
        plain = await new_key(gateway, "plain")
        may = await new_key(gateway, "prometheus", scopes=("metrics",))
        ask = {"host": host}

        nobody = await client(None).get("/metrics", headers=ask)
        anybody = await client(plain.text).get("/metrics", headers=ask)
        prometheus = await client(may.text).get("/metrics", headers=ask)
        more = await client(may.text).get("/v1/videos", headers=ask)

    assert nobody.status_code == (200 if is_open else 401)
    assert anybody.status_code == (200 if is_open else 403)
    assert prometheus.status_code == 200
    assert more.status_code == 403


async def test_the_metrics_port_answers_metrics_alone(fal: FalServer, tmp_path: Path) -> None:
    port, metrics_port = free_port(), free_port()
    settings = configured(tmp_path, fal, Server(host="127.0.0.1", port=port, metrics_port=metrics_port))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(app.serve(settings, ready=ready.set_result, stop=stop))
    either: set[asyncio.Future[Any]] = {ready, serving}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    base = f"http://127.0.0.1:{metrics_port}"
    async with httpx.AsyncClient(base_url=base, trust_env=False) as http:
        text = await http.get("/metrics?x=1", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        elsewhere = await http.get("/v1/videos")
        post = await http.post("/metrics", content=b"x" * 10)
        head = await http.head("/metrics")
        long = await reply_of(metrics_port, b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 50_000 + b"\r\n\r\n")
    stop.set()
    await serving

    assert text.status_code == 200
    assert text.headers["content-type"].startswith("application/openmetrics-text")
    families = openmetrics(text.text)  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"filmgate_jobs", "filmgate_jobs_accepted"}
    assert (elsewhere.status_code, post.status_code) == (404, 405)
    assert (head.status_code, head.content) == (200, b"")
    assert long == b""
    with pytest.raises(httpx.ConnectError):
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.get(f"{base}/metrics")


async def test_a_metrics_port_that_is_taken_is_said(fal: FalServer, tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    number = taken.sockets[0].getsockname()[1]
    settings = configured(tmp_path, fal, Server(port=free_port(), metrics_port=number))

    with pytest.raises(app.CannotServe, match=f"127.0.0.1:{number} cannot be listened on for metrics"):
        await app.serve(settings, stop=asyncio.Event())

    taken.close()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_to_say(fal: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", fal.url) as gateway:
        await gateway.ended((await gateway.create(seconds=5))["id"])
        page = await scraped(gateway.http)

    ours = "".join(line for line in page.text.splitlines(keepends=True) if "process_" not in line)
    said = subprocess.run(["promtool", "check", "metrics"], input=ours, text=True, capture_output=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


# --- a service without a socket ---------------------------------------------------------------------------------------


def configured(folder: Path, vendor: FalServer, server: Server) -> Settings:
    settings = load(written(folder / "house", vendor.url, port=1, callbacks=False), environ={})
    return msgspec.structs.replace(settings, server=server, local_key=Secret(KEY))


@contextlib.asynccontextmanager
async def service(folder: Path, vendor: FalServer, *, server: Server | None = None) -> AsyncIterator[Any]:
    """The gateway, and a function that makes a client with a key's text."""
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(app.opened(configured(folder, vendor, server or Server())))
        transport = httpx.ASGITransport(cast(Any, gateway.asgi()))
        clients: dict[str, httpx.AsyncClient] = {}

        def client(text: Secret | None) -> httpx.AsyncClient:
            shown = text.reveal() if text else ""
            headers = {"authorization": f"Bearer {shown}"} if text else {}
            if shown not in clients:
                clients[shown] = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)
            return clients[shown]

        yield gateway, client


async def new_key(gateway: app.Gateway, name: str, **terms: Any) -> keys.NewKey:
    made = keys.make(name, now_us=1, random=secrets.token_bytes(keys.RANDOM_BYTES), terms=Terms(**terms))
    await gateway.store.create_key(made.key)
    return made


async def made(gateway: app.Gateway, client: httpx.AsyncClient, count: int) -> None:
    """So many jobs, to their ends."""
    forms = [{"model": "kling-v3-pro", "prompt": f"kite {n}", "seconds": 5, "user": f"user-{n}"} for n in range(count)]
    for reply in await asyncio.gather(*(client.post("/v1/videos", json=form) for form in forms)):
        assert reply.status_code == 200, reply.text
        job = await gateway.store.job(reply.json()["id"])
        while job is not None and not job.state.is_terminal:
            job = await gateway.store.live.changed(job.id, job.version, 20)
        assert job is not None


async def reply_of(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
