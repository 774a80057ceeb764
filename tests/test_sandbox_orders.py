"""The sandbox keeps its orders as a vendor does: in line, cancelled, found again by another process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from providers import sandbox
from providers.sandbox.orders import Order, Orders
from providers.spec import (
    Failed,
    Kind,
    Operation,
    ProviderError,
    Queued,
    Running,
    Succeeded,
)
from tests.sandbox_house import (
    Sandbox,
    asked,
    drawn,
    is_half_way,
    is_over,
    order,
    square,
    staged,
    until,
)


def test_polls_answer_while_it_renders_and_progress_only_rises(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        seen = await until(provider, await order(provider, asked(seconds=3)), is_over)

        running = [status.progress or 0 for status in seen if isinstance(status, Running)]
        assert len(set(running)) > 5
        assert running == sorted(running)
        assert all(0 <= share < 1 for share in running)
        assert isinstance(seen[-1], Succeeded)

    staged(tmp_path, play)


def test_what_is_beyond_the_threads_waits_in_line(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        held_up = await order(provider, asked(options={"sandbox": {"hold": True}}), client_id="a")
        await until(provider, held_up, is_half_way)
        second = await order(provider, asked(), client_id="b")
        third = await order(provider, asked(), client_id="c")

        assert [await provider.poll(second), await provider.poll(third)] == [Queued(position=0), Queued(position=1)]

        await provider.cancel(held_up)
        assert isinstance((await until(provider, third, is_over))[-1], Succeeded)

    staged(tmp_path, play, renders=1)


def test_cancel_stops_a_render_and_leaves_no_file(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        operation = await order(provider, asked(options={"sandbox": {"hold": True}}))
        await until(provider, operation, is_half_way)

        await provider.cancel(operation)
        await provider.cancel(operation)

        status = await provider.poll(operation)
        assert isinstance(status, Failed)
        assert status.fault.kind is Kind.CANCELLED
        await provider.close()
        assert not [file for file in tmp_path.rglob("*") if file.suffix in (".mp4", ".part")]

    staged(tmp_path, play)


def test_a_cancelled_order_in_line_is_never_begun(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        held_up = await order(provider, asked(options={"sandbox": {"hold": True}}), client_id="a")
        await until(provider, held_up, is_half_way)
        waiting = await order(provider, asked(), client_id="b")

        await provider.cancel(waiting)

        status = await provider.poll(waiting)
        assert isinstance(status, Failed)
        assert status.fault.kind is Kind.CANCELLED

    staged(tmp_path, play, renders=1)


def test_a_finished_render_cannot_be_cancelled(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        operation = await order(provider, asked())
        await until(provider, operation, is_over)

        with pytest.raises(ProviderError) as caught:
            await provider.cancel(operation)

        assert caught.value.fault.kind is Kind.UNSUPPORTED
        assert isinstance(await provider.poll(operation), Succeeded)

    staged(tmp_path, play)


def test_another_process_finds_what_this_one_rendered(tmp_path: Path) -> None:
    operations: list[bytes] = []

    async def first(provider: Sandbox) -> None:
        operation = await order(provider, asked())
        await until(provider, operation, is_over)
        operations.append(msgspec.json.encode(operation))

    async def second(provider: Sandbox) -> None:
        status = await provider.poll(msgspec.json.decode(operations[0], type=Operation))
        assert isinstance(status, Succeeded)
        assert Path(str(status.videos[0].path)).stat().st_size > 1000

    staged(tmp_path, first)
    staged(tmp_path, second)


def test_an_order_that_nobody_renders_is_rendered_by_who_polls_it(tmp_path: Path) -> None:
    request = asked(first_frame=drawn(square), last_frame=drawn(lambda pen: None))
    name = Orders(tmp_path).take(Order(client_id="c-9", lane="steady", request=request))
    (tmp_path / name / ".half.part").write_bytes(b"what a dead process left")

    async def play(provider: Sandbox) -> None:
        seen = await until(provider, Operation(provider="sandbox", id=name), is_over)

        assert isinstance(seen[0], Queued | Running)
        assert isinstance(seen[-1], Succeeded)
        assert not list(tmp_path.rglob("*.part"))

    staged(tmp_path, play)


def test_closing_leaves_an_order_for_the_next_process(tmp_path: Path) -> None:
    operations: list[Operation] = []
    slow = asked(options={"sandbox": {"seconds": 0.5}})

    async def first(provider: Sandbox) -> None:
        operations.append(await order(provider, slow))
        assert not is_over(await provider.poll(operations[0]))

    async def second(provider: Sandbox) -> None:
        assert isinstance((await until(provider, operations[0], is_over))[-1], Succeeded)

    staged(tmp_path, first)
    staged(tmp_path, second)


def test_a_cancel_outlives_the_process(tmp_path: Path) -> None:
    operation = Operation(
        provider="sandbox", id=Orders(tmp_path).take(Order(client_id="x", lane="swift", request=asked()))
    )

    async def first(provider: Sandbox) -> None:
        await provider.cancel(operation)

    async def second(provider: Sandbox) -> None:
        status = await provider.poll(operation)
        assert isinstance(status, Failed)
        assert status.fault.kind is Kind.CANCELLED

    staged(tmp_path, first)
    staged(tmp_path, second)


def test_one_client_id_is_one_operation(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        one = await order(provider, asked(prompt="the first"))
        two = await order(provider, asked(prompt="the second"))
        other = await order(provider, asked(), client_id="c-2")

        assert one == two != other
        assert len(list(tmp_path.iterdir())) == 2
        kept = Orders(tmp_path).read(one.id)
        assert kept is not None
        assert kept.request.prompt == "the first"

    staged(tmp_path, play)


def test_a_lost_answer_is_found_by_its_client_id(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        operation = await order(provider, asked(), client_id="told")
        words: dict[str, Any] = {"model_id": "swift", "callback_url": None, "sent_at": datetime.now(UTC)}

        assert await provider.find(asked(), client_id="told", **words) == operation
        assert await provider.find(asked(), client_id="untold", **words) is None

    staged(tmp_path, play)


@pytest.mark.parametrize("name", ["sandbox_" + "0" * 32, "../../etc", "", "sandbox_" + "0" * 32 + "/../x"])
def test_an_unknown_operation_is_lost(tmp_path: Path, name: str) -> None:
    async def play(provider: Sandbox) -> None:
        operation = Operation(provider="sandbox", id=name)
        for call in (provider.poll, provider.cancel):
            with pytest.raises(ProviderError) as caught:
                await call(operation)
            assert caught.value.fault.kind is Kind.OPERATION_LOST

    staged(tmp_path, play)


def test_an_operation_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    outside = (
        tmp_path / "outside" / Orders(tmp_path / "outside").take(Order(client_id="c", lane="swift", request=asked()))
    )

    async def play(provider: Sandbox) -> None:
        with pytest.raises(ProviderError) as caught:
            await provider.poll(Operation(provider="sandbox", id=f"../outside/{outside.name}"))
        assert caught.value.fault.kind is Kind.OPERATION_LOST

    (tmp_path / "inside").mkdir()
    staged(tmp_path / "inside", play)


def test_a_clip_whose_file_is_gone_is_lost(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        operation = await order(provider, asked())
        status = (await until(provider, operation, is_over))[-1]
        assert isinstance(status, Succeeded)
        Path(str(status.videos[0].path)).unlink()

        with pytest.raises(ProviderError) as caught:
            await provider.poll(operation)

        assert caught.value.fault.kind is Kind.OPERATION_LOST

    staged(tmp_path, play)


def test_a_temporary_folder_goes_with_the_sandbox() -> None:
    async def play() -> Path:
        provider = sandbox.Adapter(sandbox.Settings(failures=False))
        operation = await order(provider, asked())
        status = (await until(provider, operation, is_over))[-1]
        assert isinstance(status, Succeeded)
        clip = Path(str(status.videos[0].path))
        assert clip.exists()
        await provider.close()
        return clip

    assert not asyncio.run(play()).parent.parent.exists()
