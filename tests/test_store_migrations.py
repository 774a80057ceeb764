"""A store moves forward only, one whole step at a time, and only over files that are its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.store import connect
from gateway.store.spec import StoreTooNew, StoreUnavailable
from gateway.store.sqlite_file import MIGRATIONS, connect_writer, create

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "filmgate.db"


async def test_store_of_a_newer_version_is_refused(path: Path) -> None:
    create(path)
    db = connect_writer(path)
    db.execute("INSERT INTO filmgate_migrations VALUES (9999, '9999_later', 0)")
    db.close()

    with pytest.raises(StoreTooNew, match=r"newer Filmgate \(schema 9999; this one knows"):
        await connect(f"sqlite:///{path}").open()


async def test_another_programs_database_is_left_alone(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = path.read_bytes()

    with pytest.raises(StoreUnavailable, match="another program's database"):
        await connect(f"sqlite:///{path}").open()

    assert path.read_bytes() == before


async def test_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("not a database, but long enough to be taken for one " * 20)

    with pytest.raises(StoreUnavailable, match="cannot be opened as a store: file is not a database"):
        await connect(f"sqlite:///{path}").open()


def test_failed_migration_leaves_the_schema_before_it_and_can_be_repeated(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    for file in MIGRATIONS.iterdir():
        (folder / file.name).write_text(file.read_text())
    create(path)
    last = max(int(file.name[:4]) for file in folder.iterdir())
    second = folder / f"{last + 1:04}_more.sql"
    second.write_text("CREATE TABLE more (x INTEGER) STRICT; CREATE TABLE jobs (x);")

    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        connect_writer(path, folder)
    second.write_text("CREATE TABLE more (x INTEGER) STRICT;")
    db = connect_writer(path, folder)

    numbers = [number for (number,) in db.execute("SELECT number FROM filmgate_migrations ORDER BY number")]
    assert numbers == list(range(1, last + 2))
    assert db.execute("SELECT COUNT(*) FROM more").fetchall() == [(0,)]
    db.close()
