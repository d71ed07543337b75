"""The file of a beat page as a whole: made, opened, and its header checked. What the regions after the header hold
is `beat_page`'s.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import stat
import struct
from dataclasses import asdict, fields
from pathlib import Path
from zlib import crc32

from ryzen_protos.beat_records import BeatPageError, Header

MAGIC = b"RYZNBEAT"
VERSION = 4
READ = (3, 4)
"""Version 3 has no word that tells the open section (`beat_now`). Who knows no other must not read 4: it would see
none of a step's sections, and take the first long one for silence."""
PAGE_BYTES = 40960
HEADER_BYTES = 4096
PREFIX = struct.Struct("<8sHHII")
"""Magic, version, reserved, JSON bytes, CRC-32 of the JSON."""


def create(path: Path, header: Header) -> mmap.mmap:
    """Make the page whole, beside `path`, and rename it there; what stood there is kept. Raises OSError."""
    text = json.dumps(asdict(header)).encode()
    if len(text) > HEADER_BYTES - PREFIX.size:
        raise OSError(f"{path}: beat page header of {len(text)} bytes is too long")
    page = bytearray(PAGE_BYTES)
    page[: PREFIX.size] = PREFIX.pack(MAGIC, VERSION, 0, len(text), crc32(text))
    page[PREFIX.size : PREFIX.size + len(text)] = text
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, page) != PAGE_BYTES:  # room is taken now: a store into a full tmpfs is SIGBUS
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        mapped = mmap.mmap(descriptor, PAGE_BYTES)
    finally:
        os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(path.name + ".previous"))
    aside.rename(path)
    return mapped


def open_page(path: Path, owner_uid: int | None) -> int:
    """A descriptor for reading. Raises BeatPageError for a link, another owner, a wrong size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BeatPageError(f"{path}: cannot be opened as a beat page ({error.strerror})") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != PAGE_BYTES:
        wrong = f"{path}: {status.st_size} bytes, a beat page is a file of {PAGE_BYTES}"
    elif owner_uid is not None and status.st_uid != owner_uid:
        wrong = f"{path}: belongs to uid {status.st_uid}, expected {owner_uid}"
    else:
        return descriptor
    os.close(descriptor)
    raise BeatPageError(wrong)


def read_header(page: bytes, path: Path) -> Header:
    """The header in the first `HEADER_BYTES`. Raises BeatPageError."""
    magic, version, _reserved, length, checksum = PREFIX.unpack_from(page)
    if magic != MAGIC:
        raise BeatPageError(f"{path}: no beat page (magic {magic!r}, expected {MAGIC!r})")
    if version not in READ:
        raise BeatPageError(f"{path}: beat page version {version}, this agent reads {' and '.join(map(str, READ))}")
    if length > HEADER_BYTES - PREFIX.size:
        raise BeatPageError(f"{path}: damaged beat page header (length {length})")
    text = page[PREFIX.size : PREFIX.size + length]
    if crc32(text) != checksum:
        raise BeatPageError(f"{path}: damaged beat page header (checksum)")
    try:
        values = json.loads(text)
        header = Header(**{field.name: values[field.name] for field in fields(Header)})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BeatPageError(f"{path}: damaged beat page header ({type(error).__name__}: {error})") from error
    _check_types(header, path)
    return header


def _check_types(header: Header, path: Path) -> None:
    for field in fields(Header):
        value = getattr(header, field.name)
        if field.type == "str":
            right = type(value) is str and value.isprintable()
        else:
            right = type(value) is int and 0 <= value < 1 << 63
        if not right:
            raise BeatPageError(f"{path}: damaged beat page header ({field.name} is {value!r:.80})")
