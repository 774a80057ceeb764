"""Live and test never mix: by what is seen, and by construction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from gateway.catalogue import Backend, Catalogue
from gateway.catalogue import load as load_catalogue
from gateway.health import Health
from gateway.jobs import Attempt, AttemptState, Job, JobSpec, Routing
from gateway.mirror import ACCOUNT, mirror
from gateway.router import Policy
from gateway.settings import Routing as RoutingSettings
from gateway.settings import Settings, load, provider_modules
from gateway.store.spec import InvariantBroken
from gateway.worker.buyer import Buyer, Line, WrongRealm
from gateway.worker.realms import Realms, must_be_of_one_realm
from providers import sandbox
from providers.spec import BuysNothing, MediaForm, VideoRequest
from tests.catalogue_rows import backend
from tests.gate import a_test_key, gate, picture
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.2))) as server:
        yield server


# --- what it leaves alone ---------------------------------------------------------------------------------------------


async def test_live_keys_and_their_figures_know_nothing_of_it(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch, quick=True) as house:
        before = (await house.live.get("/v1/backends")).json()["data"]
        bad = await house.ended(await house.create(prompt="[fail: generation]", model="fal/kling-v3-pro"))
        good = await house.made(model="fal/kling-v3-pro")
        said = await house.test.post(f"/v1/videos/{good['id']}/feedback", json={"accepted": False})
        after = (await house.live.get("/v1/backends")).json()["data"]
        assert fal.requests() == []

        video = await house.create(by=house.live, model="fal/kling-v3-pro", provider={"only": ["fal"]})
        video = await house.ended(video, by=house.live)

        assert bad["status"] == "failed"
        assert said.status_code == 200
        assert ageless(before) == ageless(after)
        assert await house.store.feedback_counts() == ()
        assert (await house.test.get(f"/v1/videos/{video['id']}")).status_code == 404
        assert video["status"] == "completed"
        assert video["usage"]["cost_usd"] > 0
        assert [attempt.test for attempt in await house.store.recent_attempts(10)] == [False]
        assert [attempt.test for attempt in await house.store.attempts_since(0)] == [False]
    assert len(fal.ledger()) == 1


def ageless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "renders": [{**one, "newest_seconds_ago": 0} for one in row["renders"]]} for row in rows]


async def test_open_test_jobs_go_on_in_their_realm_after_a_restart(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = a_test_key()
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        await house.store.create_key(msgspec.structs.replace(key.key, name="before"))
        house.test.headers["authorization"] = f"Bearer {key.text.reveal()}"
        video = await house.create(prompt="rain [slow: 1]", provider={"only": ["fal"]})
        job = await house.job(video)
        while job.attempts == 0:
            job = await house.store.live.changed(job.id, job.version, 5) or job

    async with gate(tmp_path / "house", fal, monkeypatch, key=key) as house:
        again = await house.ended(video)

        assert again["status"] == "completed"
        assert [one.test for one in await house.attempts(video)] == [True]
        assert (await house.job(video)).test
        assert (await house.made(model="fal/kling-v3-standard"))["usage"]["cost_usd"] == 0
    assert fal.requests() == []


# --- by construction --------------------------------------------------------------------------------------------------


async def test_no_line_of_the_test_realm_leads_anywhere_but_to_the_sandbox(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        live, test = house.realms
        mirrored = house.rooms.test
        assert mirrored is not None
        lines = [test.line(name, ACCOUNT) for name in mirrored.settings.configured]

    assert mirrored.settings.configured == {row.provider for row in mirrored.catalogue.backends}
    assert len(lines) == 8
    (double,) = {line.adapter for line in lines if line is not None}
    assert isinstance(double, sandbox.Adapter)
    assert not hasattr(double, "_transport"), "it has nothing to send with"
    assert all(line is not None and line.test and not line.callbacks for line in lines)
    assert all(account.settings is None for account in mirrored.settings.accounts), "no credential comes along"
    assert all(row.pretend for row in mirrored.catalogue.backends)
    for account in house.rooms.settings.accounts:
        line = live.line(account.provider, account.name)
        assert line is not None
        assert line.adapter is not double
        assert test.line(account.provider, account.name) is None


def test_a_mirrored_row_is_its_original_in_all_that_can_be_asked() -> None:
    settings, rows = Settings(), load(environ={}).catalogue
    catalogue = load_catalogue(rows)

    seen = mirror(settings, catalogue)

    free = {"model_id": {}, "pretend": False, "typical_seconds": None, "poll_floor_seconds": 0.0}
    for row, mirrored in zip(catalogue.backends, seen.catalogue.backends, strict=True):
        assert msgspec.structs.replace(mirrored, **free) == msgspec.structs.replace(row, **free)
        assert mirrored.model_id.keys() == row.model_id.keys()
        if row.provider != "sandbox":
            assert set(mirrored.model_id.values()) == {f"double:{row.id}"}


def test_a_job_and_a_buyer_of_two_realms_never_come_together() -> None:
    row = backend("acme/one")
    live, test = a_buyer(row), a_buyer(row, test=True)
    job = a_job()

    assert Realms(live, test).of(job) is live
    assert Realms(live, test).of(msgspec.structs.replace(job, test=True)) is test
    with pytest.raises(WrongRealm):
        Realms(live).of(msgspec.structs.replace(job, test=True))
    with pytest.raises(WrongRealm):
        live.choose(msgspec.structs.replace(job, test=True), (), now_us=0)
    with pytest.raises(WrongRealm):
        test.choose(job, (), now_us=0)
    with pytest.raises(WrongRealm):
        Realms(test, live)
    with pytest.raises(WrongRealm):
        a_buyer(row, test=True, line_test=False)


def test_the_last_look_before_a_post_holds_back_what_could_buy() -> None:
    double, real = sandbox.Adapter(sandbox.Settings()), cast(Any, object())
    attempt = an_attempt(test=True)

    must_be_of_one_realm(attempt, Line("acme", ACCOUNT, double, test=True))
    must_be_of_one_realm(an_attempt(test=False), Line("acme", "main", real))
    for line in (Line("acme", ACCOUNT, double), Line("acme", ACCOUNT, real, test=True), Line("acme", "main", real)):
        with pytest.raises(WrongRealm):
            must_be_of_one_realm(attempt, line)
    with pytest.raises(WrongRealm):
        must_be_of_one_realm(an_attempt(test=False), Line("acme", ACCOUNT, double, test=True))


async def test_a_test_job_on_a_line_that_could_buy_is_held_back(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Vendor:
        name, takes = "fal", (MediaForm.UPLOAD,)

        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            raise AttributeError(name)

        async def submit(self, *_: Any, **__: Any) -> Any:
            asked.append("submit")

        async def poll(self, operation: Any) -> Any:
            asked.append("poll")

        async def upload(self, media: Any) -> str:
            asked.append("upload")
            return "https://vendor.test/1"

    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        _, test = house.realms
        test._lines["fal", ACCOUNT] = Line("fal", ACCOUNT, cast(Any, Vendor()), test=True)
        video = await house.create(model="fal/kling-v3-standard", input_reference={"image_url": picture("red")})
        ended = await house.ended(video)

        assert ended["error"]["code"] == "provider_unavailable"
        assert [attempt.state for attempt in await house.attempts(video)] == ["not_sent"]
    assert set(asked) <= {"buys_nothing"}
    assert fal.requests() == []


def test_only_the_sandbox_says_that_it_buys_nothing() -> None:
    named = {name for name, module in provider_modules().items() if isinstance(module.Adapter, BuysNothing)}

    assert named == {"sandbox"}


async def test_the_store_takes_no_test_job_that_costs_anything(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        costly = msgspec.structs.replace(a_job(), test=True, reserved_usd_micros=1, purse_usd_micros=1)

        with pytest.raises(InvariantBroken):
            await house.store.accept(costly, decision=b"{}")


def a_buyer(row: Backend, *, test: bool = False, line_test: bool | None = None) -> Buyer:
    line = Line(row.provider, "main", cast(Any, object()), test=test if line_test is None else line_test)
    return Buyer(
        catalogue=Catalogue([row]),
        health=Health(),
        policy=Policy(),
        routing=RoutingSettings(),
        lines=[line],
        configured={row.provider},
        test=test,
    )


def a_job() -> Job:
    routing = Routing(backend="", provider="", reason="", estimated_cost_usd_micros=0)
    return Job(
        id="video_1",
        caller="key_1",
        spec=JobSpec(model="one", video=VideoRequest(prompt="rain")),
        routing=routing,
        seconds=5,
        size="",
        purse_usd_micros=0,
        created_us=1,
        deadline_us=3_600_000_000,
    )


def an_attempt(*, test: bool) -> Attempt:
    return Attempt(
        id="att_1",
        job="video_1",
        no=1,
        state=AttemptState.SUBMITTING,
        backend="acme/one",
        provider="acme",
        account=ACCOUNT,
        model_id="m",
        price_usd_micros=0,
        started_us=1,
        test=test,
    )
