"""The hook sees every step of any script, changes none of its results, and fails where it is told to."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import ryzen_lab.hook

HUNG_S = 0.3
"""A step of these scripts takes a millisecond."""
HOOK = Path(ryzen_lab.hook.__file__).parent

TRAIN = """
import sys, torch
torch.manual_seed(1)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.AdamW(model.parameters())
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(model(torch.ones(2, 8)).square().mean())
        optimizer.step()
"""
LOADED = """
import torch.utils.data
""" + TRAIN.replace("for _ in range(steps):", "for _ in torch.utils.data.DataLoader(range(steps)):")
SAVED = "import io\n" + TRAIN + "        torch.save(model.state_dict(), io.BytesIO())\n"
DIGEST = """
import hashlib
digest = hashlib.sha256()
for each in model.parameters():
    raw = each.detach()
    digest.update(f"{raw.dtype} {tuple(raw.shape)}".encode() + raw.numpy().tobytes())
print(digest.hexdigest())
"""


class Lab:
    """The lab's end of the socket."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lab.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self.output = ""

    def run(self, script: str, order: dict[str, Any] | None = None, **environment: str) -> list[dict[str, Any]]:
        """Run a rank with the hook; all that it said."""
        process, connection = self._start(script, order, environment)
        received = b""
        while part := connection.recv(65536):
            received += part
        self.output = process.communicate(timeout=60)[0]
        return [json.loads(line) for line in received.splitlines()]

    def strike(self, script: str, order: dict[str, Any]) -> dict[str, Any]:
        """Run until the rank says that it is struck; it must hang then, and say nothing more. What it said last."""
        process, connection = self._start(script, order, {})
        try:
            received = b""
            connection.settimeout(60)
            while b'"fault"' not in received or not received.endswith(b"\n"):
                part = connection.recv(65536)
                assert part, process.communicate(timeout=60)
                received += part
            connection.settimeout(HUNG_S)
            with pytest.raises(TimeoutError):
                connection.recv(65536)
            assert process.poll() is None
        finally:
            process.kill()
            process.communicate()
        last: dict[str, Any] = json.loads(received.splitlines()[-1])
        return last

    def _start(
        self, script: str, order: dict[str, Any] | None, environment: dict[str, str]
    ) -> tuple[subprocess.Popen[str], socket.socket]:
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, "RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "RYZEN_GENERATION": "3",
                 "RYZEN_LAB_NODE": "node-1", "RYZEN_LAB_SOCKET": str(self.path), "PYTHONPATH": str(HOOK),
                 **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._listener.settimeout(60)
        connection, _ = self._listener.accept()
        if order is not None:
            connection.sendall(json.dumps(order).encode() + b"\n")
        return process, connection

    def somebody_else_called(self) -> bool:
        self._listener.setblocking(False)
        try:
            self._listener.accept()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [each["kind"] for each in messages]


def steps(messages: list[dict[str, Any]]) -> list[int]:
    return [each["step"] for each in messages if each["kind"] == "step"]


def test_birth_steps_and_the_digest_of_the_end_are_told_in_order_with_rising_times(lab: Lab) -> None:
    messages = lab.run(TRAIN + "train(3)\n" + DIGEST)
    assert kinds(messages) == ["born", "torch", "step", "step", "step", "finished"]
    assert messages[0] | {"rank": 2, "generation": 3, "node": "node-1", "world_size": 4} == messages[0]
    assert steps(messages) == [1, 2, 3]
    times = [each["ns"] for each in messages]
    assert times == sorted(times)
    assert messages[-1]["digest"] == lab.output.strip()


def test_steps_go_on_from_the_restored_optimizer_state(lab: Lab) -> None:
    resume = "train(2); state = optimizer.state_dict(); optimizer = torch.optim.AdamW(model.parameters())\n"
    first_life = TRAIN + resume + "torch.save(state, sys.argv[1] if len(sys.argv) > 1 else 'state.pt')"
    folder = lab.path.parent
    subprocess.run([sys.executable, "-c", first_life, str(folder / "state.pt")], check=True)
    second_life = f"optimizer.load_state_dict(torch.load({str(folder / 'state.pt')!r})); train(2)"
    messages = lab.run(TRAIN + second_life)
    assert kinds(messages) == ["born", "torch", "restored", "step", "step", "finished"]
    assert steps(messages) == [3, 4]


def test_a_step_that_only_makes_the_optimizer_state_is_not_counted(lab: Lab) -> None:
    make = (
        "from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict as get\nget(model, optimizer)\n"
    )
    assert steps(lab.run(TRAIN + make + "train(2)")) == [1, 2]


def test_an_optimizer_without_a_step_of_its_own_is_counted_from_the_start_and_says_so(lab: Lab) -> None:
    messages = lab.run(TRAIN.replace("AdamW(model.parameters())", "SGD(model.parameters(), 0.1)") + "train(2)")
    assert [(each["step"], each["source"]) for each in messages if each["kind"] == "step"] == [
        (1, "count"),
        (2, "count"),
    ]


def test_only_the_first_optimizer_counts_steps_and_both_are_digested(lab: Lab) -> None:
    two = (
        "first = optimizer; train(1); optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)\n"
        "optimizer.step(); second = optimizer; optimizer = first; train(1)\n"
        "model.register_parameter('second', second.param_groups[0]['params'][0])\n"
    )
    messages = lab.run(TRAIN + two + DIGEST)
    assert steps(messages) == [1, 2]
    assert messages[-1]["digest"] == lab.output.strip()


@pytest.mark.parametrize("where", ["before_step", "after_step", "forward"])
def test_the_rank_raises_where_it_is_told_to_and_has_no_final_state(lab: Lab, where: str) -> None:
    order = {"do": "raise", "where": where, "calls": 1, "message": "struck"}
    messages = lab.run(TRAIN + "train(50)", order)
    assert kinds(messages)[-1] == "fault"
    assert "InjectedError: struck" in lab.output
    assert 1 <= len(steps(messages)) < 50


HANGS = {
    "spin": (TRAIN, {"do": "spin", "where": "forward", "calls": 1}, "forward"),
    "gil, asleep": (TRAIN, {"do": "gil", "where": "after_step", "how": "wait"}, "after_step"),
    "gil, busy": (TRAIN, {"do": "gil", "where": "before_step", "how": "spin"}, "before_step"),
    "backward": (TRAIN, {"do": "backward", "part": 0.9, "how": "lock"}, "backward"),
    "loader": (LOADED, {"do": "loader", "how": "sleep"}, "data loader"),
    "loader, of which there is none": (TRAIN, {"do": "loader", "how": "lock"}, "forward, for no data loader was asked"),
    "save": (SAVED, {"do": "save", "how": "sleep", "claim": ""}, "torch.save"),
}


OFTEN = ("spin", "gil, busy", "loader", "save")
"""The others are long, for each imports torch."""


@pytest.mark.parametrize(
    ("script", "order", "where"),
    [pytest.param(*each, id=name, marks=[] if name in OFTEN else pytest.mark.long) for name, each in HANGS.items()],
)
def test_the_rank_hangs_where_it_says_and_lives(lab: Lab, script: str, order: dict[str, Any], where: str) -> None:
    assert lab.strike(script + "train(2000)", order)["where"] == where


def test_only_the_first_of_those_that_may_save_hangs(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "claim").touch()  # another rank was first
    order = {"do": "save", "how": "sleep", "claim": str(tmp_path / "claim")}
    messages = lab.run(SAVED + "train(5)", order)
    assert steps(messages) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("order", [{"do": "pause", "seconds": 0.3}, {"do": "collect", "objects": 100_000}])
def test_an_innocent_pause_is_told_and_changes_no_bit(lab: Lab, order: dict[str, Any]) -> None:
    random = "\nfor _ in range(3): train(1); model.weight.data += torch.rand(1)\n"
    messages = lab.run(TRAIN + random + DIGEST, order)
    paused = lab.output
    assert [each for each in kinds(messages) if each in ("fault", "resumed")] == ["fault", "resumed"]
    lab.run(TRAIN + random + DIGEST)
    assert lab.output == paused


def test_a_rank_that_is_told_to_linger_stays_after_its_last_word(lab: Lab) -> None:
    began = time.monotonic()
    messages = lab.run(TRAIN + "train(2)", {"do": "linger", "seconds": 1.5})
    assert messages[-1]["kind"] == "finished"
    assert time.monotonic() - began > 1.5


def test_every_script_makes_a_group_that_it_does_not_use(lab: Lab) -> None:
    """Alone it needs none; the hook must not stumble over a world of one, nor over an order for a group."""
    alone = "torch.distributed.init_process_group('gloo', init_method='tcp://127.0.0.1:0', rank=0, world_size=1)\n"
    done = "\ntorch.distributed.destroy_process_group()"
    messages = lab.run(TRAIN + alone + "train(3)" + done, {"do": "deadlock", "where": "after_step"})
    assert steps(messages) == [1, 2, 3]


def test_a_hidden_sitecustomize_still_runs(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('the user has one too')")
    lab.run("", PYTHONPATH=f"{HOOK}{os.pathsep}{tmp_path}")
    assert "the user has one too" in lab.output


def test_a_helper_that_a_rank_starts_is_not_taken_for_a_rank(lab: Lab) -> None:
    helper = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    assert kinds(lab.run(helper)) == ["born", "finished"]
    assert not lab.somebody_else_called()


def test_a_script_goes_on_when_the_lab_is_gone(tmp_path: Path) -> None:
    environment = {**os.environ, "RANK": "0", "RYZEN_LAB_SOCKET": str(tmp_path / "nobody"), "PYTHONPATH": str(HOOK)}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN + "train(2)\nprint('through')"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "through"
    assert done.stderr == ""


NORMS = TRAIN.replace(
    "        optimizer.step()",
    "        print('norm', float(sum(p.grad.square().sum() for p in model.parameters())))\n        optimizer.step()",
)


def printed(output: str) -> list[float]:
    return [float(line.split()[1]) for line in output.splitlines() if line.startswith("norm")]


@pytest.mark.parametrize("order", [{"do": "nan"}, {"do": "spike", "times": 1000.0}])
def test_wrong_gradients_come_once(lab: Lab, order: dict[str, Any]) -> None:
    said = lab.run(NORMS + "train(6)\n", order)
    assert [each["where"] for each in said if each["kind"] == "fault"] == ["backward"]
    norms = printed(lab.output)
    ordinary = max(norms[0], norms[-1])
    struck = [not norm < 1000 * ordinary for norm in norms] if order["do"] == "spike" else [n != n for n in norms]
    assert struck.count(True) == (1 if order["do"] == "spike" else len(norms) - 1), "NaN stays in the parameters"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest after four steps that nothing disturbs; run once, for the import of torch takes seconds."""
    digest: str = Lab(tmp_path_factory.mktemp("undisturbed")).run(TRAIN + "train(4)\n")[-1]["digest"]
    return digest


@pytest.mark.parametrize(
    ("where", "bit"), [("weight", 0.0), ("weight", 0.999), ("reduced-gradient", 0.9), ("gradient", 0.9)]
)
def test_a_bit_flip_changes_the_run_and_says_where(lab: Lab, undisturbed: str, where: str, bit: float) -> None:
    said = lab.run(TRAIN + "train(4)\n", {"do": "bitflip", "where": where, "part": 0.3, "at": 0.7, "bit": bit})
    faults = [each["where"] for each in said if each["kind"] == "fault"]
    assert len(faults) == 1
    assert faults[0].startswith(f"{where.replace('-', ' ')}, bit {int(bit * 32)}: ")
    assert said[-1]["digest"] != undisturbed


RECOMPUTED = "from torch.utils.checkpoint import checkpoint\n" + TRAIN.replace(
    "model(torch.ones(2, 8))", "checkpoint(model, torch.ones(2, 8), use_reentrant=False)"
)


@pytest.mark.parametrize(("script", "beside"), [(TRAIN, " (nothing is recomputed)"), (RECOMPUTED, "")])
def test_an_activation_flips_inside_what_is_recomputed_where_there_is_such(lab: Lab, script: str, beside: str) -> None:
    undisturbed = lab.run(script + "train(8)\n")[-1]["digest"]
    order = {"do": "bitflip", "where": "activation", "part": 0.9, "at": 0.7, "bit": 0.9}
    said = lab.run(script + "train(8)\n", order)
    faults = [each["where"] for each in said if each["kind"] == "fault"]
    assert len(faults) == 1
    assert f"{beside}, bit 28: " in faults[0]
    assert said[-1]["digest"] != undisturbed


def test_with_a_probability_bits_flip_again_and_again(lab: Lab) -> None:
    script = NORMS + "train(40)\n"
    order = {"do": "bitflip", "where": "gradient", "probability": 0.5, "least_bit": 0.8, "seed": 1, "part": 0.0,
             "at": 0.0, "bit": 0.0}  # fmt: skip
    lab.run(script)
    undisturbed = printed(lab.output)
    said = lab.run(script, order)
    assert len([each for each in said if each["kind"] == "fault"]) == 1, "the first is the fault"
    differ = [one != other for one, other in zip(printed(lab.output), undisturbed, strict=True)]
    assert differ.count(True) > 5


FLIP = """
import sys, torch
sys.path.insert(0, {folder!r})
from ryzen_lab_flips import flip
for kind in (torch.float32, torch.bfloat16, torch.float64):
    size = torch.empty((), dtype=kind).element_size()
    whole = {{2: torch.int16, 4: torch.int32, 8: torch.int64}}[size]
    for bit in range(8 * size):
        tensor = torch.randn(3, 5).to(kind).t()          # not contiguous
        before = tensor.contiguous().view(whole).clone()
        flip(tensor, 7, bit)
        changed = before ^ tensor.contiguous().view(whole)
        assert changed.count_nonzero() == 1, (kind, bit)
        assert int(changed.reshape(-1)[7]) & ((1 << 8 * size) - 1) == 1 << bit, (kind, bit)
"""


def test_a_flip_changes_exactly_the_bit_that_it_names() -> None:
    subprocess.run([sys.executable, "-c", FLIP.format(folder=str(HOOK))], check=True, timeout=60)


COUNTS = """
import sys, torch
sys.path.insert(0, {folder!r})
from ryzen_lab_flips import first_that_counts
for kind in (torch.float32, torch.bfloat16):
    tensor = torch.tensor([[0.0, 3.0, 1e-9], [float("nan"), -2.0, float("inf")]]).to(kind)
    found = [first_that_counts(tensor, element) for element in range(6)]
    assert found == [1, 1, 4, 4, 4, 1], found
    assert first_that_counts(torch.zeros(4, dtype=kind), 2) == 2
"""


def test_a_flip_strikes_a_number_that_counts() -> None:
    subprocess.run([sys.executable, "-c", COUNTS.format(folder=str(HOOK))], check=True, timeout=60)
