"""Stacks as py-spy and faulthandler give them; the captured texts are of torch 2.13 on Python 3.11."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent import stacks
from ryzen_agent.stacks import FRAMES_MAX, TEXT_CHARS, catches, parse_faulthandler, parse_py_spy, shortened
from ryzen_agent.waiting import in_collective, polls

DUMP = """\
Current thread 0x00007f1b2c3d4740 (most recent call first):
  File "/w/old.py", line 1 in old
Current thread 0x00007f1b2c3d4740 (most recent call first):
  File "/w/.venv/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", line 3252 in all_reduce
  File "/w/.venv/lib/python3.11/site-packages/torch/distributed/c10d_logger.py", line 83 in wrapper
  File "/home/me/project/train.py", line 18 in <module>
"""


def frame(name: str, filename: str, line: int = 1) -> dict[str, object]:
    return {"name": name, "filename": filename, "module": None, "line": line, "locals": None}


def thread(number: int | None, *frames: dict[str, object]) -> dict[str, object]:
    return {"pid": 7, "thread_id": 1, "os_thread_id": number, "active": False, "frames": list(frames)}


def py_spy(*threads: dict[str, object]) -> bytes:
    return json.dumps(threads).encode()


C10D = "/v/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py"
GRAPH = "/v/lib/python3.11/site-packages/torch/autograd/graph.py"
USER = frame("<module>", "/home/me/project/train.py", 18)


def test_the_main_thread_is_shown_innermost_first_with_short_paths() -> None:
    found = parse_py_spy(
        py_spy(thread(9, frame("wait", "/a/threading.py")), thread(7, frame("all_reduce", C10D, 3), USER)), 7
    )
    assert found is not None
    assert found.text == "all_reduce (torch/distributed/distributed_c10d.py:3)\n<module> (me/project/train.py:18)"


def test_equal_text_is_an_equal_stack_whatever_other_threads_do() -> None:
    one = parse_py_spy(py_spy(thread(7, USER), thread(9, frame("work", "w.py", 1))), 7)
    two = parse_py_spy(py_spy(thread(7, USER), thread(9, frame("work", "w.py", 2))), 7)
    assert one is not None
    assert two is not None
    assert one.id == two.id != 0
    assert one != two, "another thread has moved"


def test_a_dump_without_the_main_thread_is_none() -> None:
    assert parse_py_spy(py_spy(thread(9, USER), thread(None, USER)), 7) is None
    assert parse_py_spy(py_spy(thread(7)), 7) is None


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["os_thread_id", "frames", "name", "line"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_py_spy_says_cannot_fail_the_agent(text: bytes) -> None:
    assert parse_py_spy(text, 7) is None


def test_a_hook_that_autograd_runs_in_its_own_thread_is_where_the_rank_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_thread_name", lambda _pid, number: "pt_autograd_0\n" if number == 9 else "python\n")
    main = thread(7, frame("_engine_run_backward", GRAPH), USER)
    found = parse_py_spy(py_spy(main, thread(9, frame("hook", "/home/me/project/train.py", 5)), thread(8, USER)), 7)
    assert found is not None
    assert [each.function for each in found.frames] == ["hook", "_engine_run_backward", "<module>"]
    assert not in_collective(found.frames, pending=True)


def test_the_last_dump_of_faulthandler_counts() -> None:
    found = parse_faulthandler(DUMP)
    assert found is not None
    assert found.text.splitlines() == [
        "all_reduce (torch/distributed/distributed_c10d.py:3252)",
        "wrapper (torch/distributed/c10d_logger.py:83)",
        "<module> (me/project/train.py:18)",
    ]
    assert parse_faulthandler("") is None
    assert parse_faulthandler("Current thread 0x1 (most recent call first):\n  <no Python frame>\n") is None


def test_a_text_is_bounded_and_has_one_printable_line_a_frame() -> None:
    frames = [frame("\x1b[31m\n" + "f" * 500, "/x" * 900 + "/a.py", number) for number in range(200)]
    found = parse_py_spy(py_spy(thread(7, *frames)), 7)
    assert found is not None
    assert len(found.text) <= TEXT_CHARS
    assert len(found.frames) == FRAMES_MAX
    assert all(line.isprintable() for line in found.text.split("\n"))


def test_paths_keep_what_helps() -> None:
    assert shortened("/usr/lib/python3.11/threading.py") == "threading.py"
    assert shortened("/opt/pytorch/torch/nn/parallel/distributed.py") == "torch/nn/parallel/distributed.py"
    assert shortened("/usr/lib/python3/dist-packages/numpy/core/a.py") == "numpy/core/a.py"
    assert shortened("train.py") == "train.py"


def test_only_a_process_that_catches_a_signal_would_survive_it() -> None:
    number = signal.SIGRTMIN + 11
    assert catches(b"SigIgn:\t0000000000000000\nSigCgt:\t0000100100000002\n", number)
    assert not catches(b"SigCgt:\t0000000100000002\n", number)
    assert not catches(b"Name:\tSigCgt\n", number)


@pytest.mark.parametrize(
    ("functions", "pending", "waits"),
    [
        ([("all_reduce", C10D), ("step", "/me/train.py")], False, True),
        ([("_exception_logger.<locals>.wrapper", C10D), ("all_gather_object", C10D)], False, True),
        ([("wait", "/usr/lib/python3.11/threading.py"), ("barrier", C10D)], False, True),
        ([("_store_based_barrier", C10D), ("init_process_group", C10D)], False, True),
        ([("_engine_run_backward", GRAPH), ("step", "/me/train.py")], True, True),
        ([("_engine_run_backward", GRAPH), ("step", "/me/train.py")], False, False),
        ([("hook", "/me/train.py"), ("_engine_run_backward", GRAPH)], True, False),
        ([("broadcast", "/me/broadcast.py"), ("all_reduce", C10D)], True, False),
        ([("<module>", "/me/train.py")], True, False),
        ([("_try_get_data", "/v/site-packages/torch/utils/data/dataloader.py")], True, False),
        ([("get", "/usr/lib/python3.11/queue.py"), ("evaluate", "/me/train.py")], True, False),
    ],
)
def test_who_waits_for_other_ranks_is_told_by_torchs_own_frames(
    functions: list[tuple[str, str]], pending: bool, waits: bool
) -> None:
    found = parse_py_spy(py_spy(thread(7, *(frame(*each) for each in functions))), 7)
    assert found is not None
    assert in_collective(found.frames, pending) is waits


def test_a_data_loader_that_waits_for_its_workers_wakes_for_nothing() -> None:
    loader = frame("_MultiProcessingDataLoaderIter._try_get_data", "/v/site-packages/torch/utils/data/dataloader.py")
    waits = parse_py_spy(py_spy(thread(7, frame("select", "/usr/lib/python3.11/selectors.py"), loader, USER)), 7)
    assert waits is not None
    assert polls(waits.frames)
    assert not polls(waits.frames[2:])


def test_a_file_that_is_not_the_users_own_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.stack"
    path.write_text(DUMP)
    assert stacks._open_dump(path, os.getuid() + 1) == -1
    (tmp_path / "link").symlink_to(path)
    assert stacks._open_dump(tmp_path / "link", os.getuid()) == -1
    assert stacks._open_dump(tmp_path, os.getuid()) == -1
