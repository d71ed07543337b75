"""A rank: steps every 20 ms, ignores SIGTERM like a process inside a hung collective, ends as a file tells it."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

from ryzen_protos import beat_batch, run_dir
from ryzen_protos.beat_batch import FirstBatch
from ryzen_protos.beat_page import BeatWriter, Event, Header
from ryzen_protos.beat_records import process_start_ticks

signal.signal(signal.SIGTERM, signal.SIG_IGN)
FOLDER = Path(os.environ["FOLDER"])
RANK, LOCAL = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
GENERATION = int(os.environ.get("RYZEN_GENERATION", "0"))
RUN_ID = os.environ["TORCHELASTIC_RUN_ID"]


def nudge() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(b"", str(run_dir.nudge_socket(run_dir.default_path())))
        except OSError:
            return


def page() -> BeatWriter | None:
    if os.environ.get("NO_PAGE"):
        return None
    path = run_dir.beat_page(run_dir.default_path(), RUN_ID, LOCAL)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pid = os.getpid()
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    return BeatWriter(path, Header(RUN_ID, GENERATION, RANK, LOCAL, 0, pid, process_start_ticks(pid), namespace))


def told() -> str:
    for name in (f"rank-{RANK}", "all"):
        try:
            return (FOLDER / name).read_text()
        except FileNotFoundError:
            continue
    return ""


def main() -> None:
    writer = page()
    (FOLDER / f"pid-{GENERATION}-{RANK}").write_text(str(os.getpid()))
    if writer is not None and (batch := os.environ.get("FIRST_BATCH")):
        writer.put(beat_batch.AT, beat_batch.pack(FirstBatch(int(batch), 0)))
    step = 0
    while not (what := told()) or (what.startswith("g") and not what.startswith(f"g{GENERATION} ")):
        if writer is not None:
            now = time.monotonic_ns()
            writer.progress(step, step, writer.section_index(""), now, now, loss=0.5, given=1)
            if step == 10:
                writer.event(Event.CHECKPOINT, step)
        step += 1
        time.sleep(0.02)
    word = what.split()[-1]
    if word == "raise":
        assert writer is not None
        writer.failure("ValueError", "it broke")
        nudge()
        time.sleep(30)
    if word == "freeze":
        time.sleep(600)
    sys.exit(int(word))


if __name__ == "__main__":
    main()
