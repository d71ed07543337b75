"""Decisions on disk before anybody acts on them: SQLite, one file, one writer.

`records` holds the newest body for each (kind, key): what a restarted coordinator begins with. `decisions` is
their history and `node_events` that of the agents, both bounded. WAL with synchronous=FULL: a commit is on the
disk when it returns. WAL needs shared memory between processes of one host, so a network file system is refused
by its name (sqlite.org/wal.html: "WAL does not work over a network filesystem").

A commit that was torn by a crash is left out by SQLite itself: the frames of its log have checksums. Pages of the
database have none, so a damaged one is looked for at every start (`quick_check`) and refused: what the coordinator
would begin with is not to be guessed. Beside the journal lies the log of inputs (inputs/writer.py).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ryzen_coordinator.core.effects import Journal as JournalRecord
from ryzen_coordinator.errors import JournalError

_SCHEMA_VERSION = 1
_SCHEMA = f"""
begin immediate;
create table if not exists records (kind text, key text, body text not null, unix_s real, primary key (kind, key));
create table if not exists decisions (
    id integer primary key, unix_s real not null, kind text not null, key text not null, body text);
create table if not exists node_events (
    node text, id integer, unix_ns integer, kind text, run_id text, fields text, primary key (node, id));
pragma user_version = {_SCHEMA_VERSION};
commit;
"""
DECISIONS_KEPT = 100_000
EVENTS_KEPT = 100_000
CHECKED_WHOLE_BYTES = 512 << 20
"""Up to this size every page is looked at (0.7 s per GiB in the page cache, measured); beyond, those of `records`."""

_PAGE = re.compile(r"\b[Pp]age (\d+)")
"""As in "Page 6: btreeInitPage() returns error code 11" and "Tree 2 page 5 cell 3: ..."."""

# f_type of statfs(2); the figures are in linux/magic.h and in the file systems' own sources.
_NETWORK_FILE_SYSTEMS = {
    0x6969: "NFS",
    0x0BD00BD0: "Lustre",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB",
    0x517B: "SMB",
    0x00C36400: "CephFS",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x65735546: "FUSE (sshfs, s3fs, ...)",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0xAAD7AAEA: "PanFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0x0BAD1DEA: "WekaFS",
}


class Journal:
    """One open journal. Raises JournalError from every method."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Decisions and node events are written from several threads, and a thread that writes is not ended with the
        # task that waits for it. A connection that is closed under a statement crashes the process, hence one lock.
        self._lock = threading.Lock()
        refuse_network_file_system(path)
        with _errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def records(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(kind, key, body) of everything that was decided last."""
        with _errors(self.path), self._lock:
            rows = self._connection.execute("select kind, key, body from records order by kind, key").fetchall()
            return [(kind, key, json.loads(body)) for kind, key, body in rows]

    def write(self, records: Iterable[JournalRecord], unix_s: float) -> None:
        """Put the records on disk in one transaction; it is there when this returns."""
        with _errors(self.path), self._transaction():
            for record in records:
                self._write_one(record, unix_s)

    def write_events(self, node: str, events: Iterable[tuple[int, int, str, str, dict[str, str]]]) -> None:
        """Keep events (id, unix_ns, kind, run id, fields) of a node; one that is known already is passed over."""
        rows = [(node, *event[:4], json.dumps(event[4])) for event in events]
        with _errors(self.path), self._transaction():
            self._connection.executemany("insert or ignore into node_events values (?, ?, ?, ?, ?, ?)", rows)

    def prune(self) -> None:
        """Drop the oldest of both histories beyond what is kept."""
        with _errors(self.path), self._transaction():
            self._connection.execute(
                "delete from decisions where id <= (select max(id) from decisions) - ?", (DECISIONS_KEPT,)
            )
            self._connection.execute(
                "delete from node_events where rowid <= (select max(rowid) from node_events) - ?", (EVENTS_KEPT,)
            )

    def close(self) -> None:
        """Close the file once nobody is writing; who writes afterwards is told that it is closed."""
        with _errors(self.path), self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        # One coordinator a journal: the lock is held for as long as the file is open.
        connection.execute("pragma locking_mode=exclusive")
        self._refuse_damage()
        (version,) = connection.execute("pragma user_version").fetchone()
        if version not in {0, _SCHEMA_VERSION}:
            raise JournalError(
                f"journal {self.path}: written by another version of ryzen (schema {version}, this one reads "
                f"{_SCHEMA_VERSION}): use that version, or another --journal"
            )
        connection.executescript(_SCHEMA)  # each time: to write is what takes the lock

    def _refuse_damage(self) -> None:
        """Raises JournalError with what SQLite finds wrong first, and where."""
        pages, size, tables = (
            self._connection.execute(question).fetchone()[0]
            for question in ("pragma page_count", "pragma page_size", "select count(*) from sqlite_schema")
        )
        if not tables:
            return
        whole = pages * size <= CHECKED_WHOLE_BYTES
        rows = self._connection.execute("pragma quick_check(1)" if whole else "pragma quick_check(records)").fetchall()
        found = str(rows[0][0]).splitlines()[-1] if rows else "ok"
        if found == "ok":
            return
        page = _PAGE.search(found)
        where = f" at offset {(int(page[1]) - 1) * size}" if page is not None else ""
        raise JournalError(_damaged(self.path, f"{where} ({found})"))

    def _write_one(self, record: JournalRecord, unix_s: float) -> None:
        body = json.dumps(record.body, separators=(",", ":")) if record.body is not None else None
        self._connection.execute(
            "insert into decisions (unix_s, kind, key, body) values (?, ?, ?, ?)",
            (unix_s, record.kind, record.key, body),
        )
        if body is None:
            self._connection.execute("delete from records where kind = ? and key = ?", (record.kind, record.key))
        else:
            self._connection.execute(
                "insert or replace into records values (?, ?, ?, ?)", (record.kind, record.key, body, unix_s)
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")


def _damaged(path: Path, what: str) -> str:
    return (
        f"journal {path}: damaged{what}: put a copy back, or give another --journal: jobs that run keep their "
        "generation, what was evicted and the counts of restarts begin anew"
    )


def refuse_network_file_system(path: Path, file_system: int | None = None) -> None:
    """Raises JournalError if `path` is to lie on a network file system. `file_system`: its f_type, else asked."""
    magic = file_system if file_system is not None else _file_system(path)
    name = _NETWORK_FILE_SYSTEMS.get(magic)
    if name is not None:
        raise JournalError(
            f"journal {path}: lies on {name}, where SQLite's write-ahead log is not safe: "
            "give --journal a path on a local disk"
        )


def _file_system(path: Path) -> int:
    """f_type of statfs(2) for the nearest parent that exists; 0 where it cannot be asked."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    buffer = (ctypes.c_long * 32)()  # struct statfs begins with f_type as a word; 256 bytes are ample for the rest
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(there), ctypes.byref(buffer)) != 0:
        return 0
    return int(buffer[0]) & 0xFFFFFFFF


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = " (another coordinator uses it)" if "locked" in reason else ""
        raise JournalError(f"journal {path}: {reason}{hint}") from error
    except (sqlite3.ProgrammingError, OverflowError) as error:  # closed, or a number beyond 64 bits with a sign
        raise JournalError(f"journal {path}: {'closed' if 'closed' in str(error) else error}") from error
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_CORRUPT"):
            raise JournalError(_damaged(path, f" ({error})")) from error
        raise JournalError(f"journal {path}: not a journal of ryzen ({error}): give another --journal") from error
    except ValueError as error:
        raise JournalError(_damaged(path, f" (a record cannot be read: {error})")) from error
