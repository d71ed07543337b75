"""The flight recorder's answer, as torch 2.13 with gloo gave it, and as nobody should."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent import recorder
from ryzen_agent.recorder import Entry, parse_groups, parse_trace, read_trace, telling


def entry(sequence: int, retired: bool = True, **changes: Any) -> dict[str, Any]:
    return {
        "collective_seq_id": sequence, "input_dtypes": ["Float"], "input_sizes": [[33088]], "is_p2p": False,
        "op_id": sequence, "p2p_seq_id": 0, "pg_id": 0, "process_group": ["0", "default_pg"],
        "profiling_name": "gloo:all_reduce", "record_id": sequence, "retired": retired, "state": "scheduled", **changes,
    }  # fmt: skip


def trace(*entries: object) -> bytes:
    return json.dumps({"comm_lib_version": "", "entries": entries, "pg_config": {}}).encode()


def test_an_entry_says_what_was_begun_and_whether_it_is_done() -> None:
    assert parse_trace(trace(entry(1), entry(2, retired=False))) == [
        Entry("0", 1, "all_reduce", "Float[33088]", done=True),
        Entry("0", 2, "all_reduce", "Float[33088]", done=False),
    ]
    nccl = entry(3, retired=False, state="completed", profiling_name="nccl:_all_gather_base", input_sizes=[[2, 3], [4]],
                 input_dtypes=["Half", "Int"])  # fmt: skip
    assert parse_trace(trace(nccl)) == [Entry("0", 3, "_all_gather_base", "Half[2,3] Int[4]", done=True)]


def test_sends_and_receives_say_nothing_of_the_other_ranks() -> None:
    sent = entry(7, is_p2p=True, p2p_seq_id=3, profiling_name="nccl:send 0->1")
    assert parse_trace(trace(sent)) == []


def test_no_name_of_a_rank_can_break_a_message_or_a_terminal() -> None:
    assert parse_groups(b'{"\\ud800\\u001b": [0]}') == {"??": (0,)}


def test_what_is_no_entry_is_passed_over() -> None:
    wrong = [entry(-1), entry(1, process_group=[]), entry(1, collective_seq_id="x"), {}, 7, None]
    assert parse_trace(trace(*wrong, entry(1))) == [Entry("0", 1, "all_reduce", "Float[33088]", done=True)]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["entries", "process_group", "collective_seq_id", "profiling_name", "0"]), inner, max_size=4),
)  # fmt: skip


@given(values)
def test_whatever_a_rank_answers_cannot_fail_the_agent(value: object) -> None:
    text = json.dumps(value).encode()
    parse_trace(text)
    parse_groups(text)
    parse_trace(json.dumps({"entries": [value, entry(1)]}).encode())
    parse_trace(text[:-1])


def test_pending_ones_and_the_newest_of_each_group_are_told() -> None:
    done = [Entry("0", number, "all_reduce", "", done=True) for number in range(100)]
    other = Entry("1", 5, "broadcast", "", done=True)
    pending = [Entry("0", number, "all_reduce", "", done=False) for number in range(100, 140)]
    assert telling([other, *done]) == [other, done[-1]]
    assert telling([*done, *pending]) == [*pending[:16], pending[-1]]
    assert telling([]) == []


def test_groups_are_global_ranks_by_name() -> None:
    assert parse_groups(b'{"0": [0, 1, 2], "7": [1, "x", -1, 2]}') == {"0": (0, 1, 2), "7": (1, 2)}
    assert parse_groups(b"[]") is None


def served(path: Path, answer: Callable[[socket.socket], object]) -> threading.Thread:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        with listening, listening.accept()[0] as connection, contextlib.suppress(BrokenPipeError):
            connection.recv(4096)
            answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def ask(path: Path, pid: int | None = None) -> list[Entry] | None:
    return asyncio.run(read_trace(path, os.getpid() if pid is None else pid, os.getuid()))


def test_an_answer_is_read_to_its_end(tmp_path: Path) -> None:
    body = trace(*(entry(number) for number in range(500)))
    served(tmp_path / "s", lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n" + body))
    assert len(ask(tmp_path / "s") or []) == 500


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 404 Not Found\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n{", b"\0" * 99])
def test_a_wrong_answer_is_as_none(tmp_path: Path, answer: bytes) -> None:
    served(tmp_path / "s", lambda connection: connection.sendall(answer))
    assert ask(tmp_path / "s") is None


def test_an_endless_answer_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "ANSWER_BYTES", 1 << 20)

    def for_ever(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"x" * 65536)
        except OSError:
            return

    serving = served(tmp_path / "s", for_ever)
    assert ask(tmp_path / "s") is None
    serving.join(10)
    assert not serving.is_alive(), "the agent hung up"


def test_silence_is_given_up(tmp_path: Path) -> None:
    silent = threading.Event()
    served(tmp_path / "s", lambda _connection: silent.wait(30))
    assert ask(tmp_path / "s") is None
    silent.set()


def test_the_socket_of_another_process_is_not_asked(tmp_path: Path) -> None:
    served(tmp_path / "s", lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + trace(entry(1))))
    assert ask(tmp_path / "s", pid=1) is None
    assert ask(tmp_path / "none") is None
