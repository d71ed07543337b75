"""Scripts below `python -m ryzen_trainer.auto`: they run as ever, and are seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatReader, Progress

RANK = {"TORCHELASTIC_RUN_ID": "job", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(16, 8)
        self.middle = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
        self.out = nn.Linear(8, 16)
    def forward(self, x):
        return self.out(self.middle(self.words(x)))

torch.manual_seed(0)
net = Net()
batch = torch.arange(12).reshape(3, 4)
def loss_of(model=net):
    return nn.functional.cross_entropy(model(batch).flatten(0, 1), batch.flatten())
"""

TRAINING = (
    MODEL
    + """
import hashlib
optimizer = torch.optim.AdamW(net.parameters())
for step in range(8):
    for _ in range(2):
        (loss_of() / 2).backward()
    optimizer.step()
    optimizer.zero_grad()
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in net.parameters())).hexdigest(), torch.rand(1))
"""
)


def run(
    folder: Path, source: str, *options: str, auto: bool = True, name: str = "train.py", **environment: str
) -> subprocess.CompletedProcess[str]:
    """A rank that torchrun has started, as far as it can tell."""
    script = folder / "scripts" / name
    script.parent.mkdir(exist_ok=True)
    script.write_text(source)
    under = ["-m", "ryzen_trainer.auto"] if auto else []
    return subprocess.run(
        [sys.executable, *under, str(script), *options],
        env={**os.environ, **RANK, "RYZEN_RUN_DIR": str(folder), **environment},
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def page(folder: Path) -> BeatReader:
    return BeatReader(run_dir.beat_page(folder, "job", 0))


def progress(folder: Path) -> Progress:
    found = page(folder).progress()
    assert found is not None
    return found


def same_as_without(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """With and without, the script says and ends the same."""
    plain, watched = (run(folder, source, *options, auto=auto) for auto in (False, True))
    assert (watched.returncode, watched.stdout) == (plain.returncode, plain.stdout)
    lines = [line for line in watched.stderr.splitlines() if "WorkerServer" not in line]  # torch's, of its own server
    assert lines == [line for line in plain.stderr.splitlines() if "WorkerServer" not in line]
    return watched


def test_a_training_is_seen_and_ends_with_the_same_bits_and_random_numbers(tmp_path: Path) -> None:
    same_as_without(tmp_path, TRAINING)
    seen = progress(tmp_path)
    assert (seen.step, seen.steps_done, seen.section) == (8, 8, "(end)")
    assert seen.tokens == 7 * 24, "all steps but the first, after which the model is known; two micro-batches each"
    assert seen.samples == 7 * 6
    assert seen.learning_rate == 0.001
    assert seen.grad_norm is not None
    assert 0 < seen.grad_norm < 10
    reader = page(tmp_path)
    newest = list(reader.steps())[-1]
    spent = dict(zip(reader.section_names(), newest.sections, strict=False))
    assert all(spent[name] > 0 for name in ("forward", "backward", "optimizer"))
    assert sum(spent.values()) == pytest.approx(newest.duration_ns / 1e9, rel=0.02)
    measures = reader.measures()
    assert seen.flops == 24 * 6 * (8 * 8 + 8 * 16), "of the products, forward and backward"
    assert measures is not None
    assert measures.peak_flops > 0


def test_a_script_sees_no_difference_in_how_it_was_started(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "beside.py").write_text("WHAT = 'beside'")
    told = same_as_without(
        tmp_path,
        "import sys, __main__, beside\n"
        "print(sys.argv, sys.path[0], __name__, __file__, __spec__, __package__, __main__.__file__, beside.WHAT)\n"
        "print(sorted(each for each in dir() if each != '__annotations__'))\n"
        "def f(): return __main__.f\n"
        "assert f() is f\n",
        "--lr",
        "1",
    ).stdout
    assert "'--lr', '1'" in told
    assert "__main__" in told


def test_torch_is_not_loaded_before_the_script_wants_it(tmp_path: Path) -> None:
    assert run(tmp_path, "import sys; print('torch' in sys.modules)").stdout == "False\n"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("import sys; sys.exit(7)", 7),
        ("raise SystemExit('no data')", 1),
        ("def f():\n    raise ValueError('bad')\nf()", 1),
        ("def f(:\n    pass", 1),
        ("import sys\nsys.excepthook = lambda *a: print('mine', a[1])\n1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15),
    ],
    ids=["code", "text", "exception", "syntax", "excepthook", "signal"],
)
def test_a_script_ends_as_it_would_without(tmp_path: Path, source: str, code: int) -> None:
    assert same_as_without(tmp_path, source).returncode == code


def test_an_uncaught_exception_is_stamped(tmp_path: Path) -> None:
    run(tmp_path, "raise ValueError('bad data')")
    failure = page(tmp_path).failure()
    assert failure is not None
    assert (failure.type, failure.message) == ("ValueError", "bad data")


def test_a_module_runs_as_with_m(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "train.py").write_text("import sys; print(__name__, __spec__.name, sys.argv, sys.path[0])")
    environment = {**os.environ, **RANK, "RYZEN_RUN_DIR": str(tmp_path)}
    plain, watched = (
        subprocess.run(
            [sys.executable, *under, "-m", "package.train", "1"], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for under in ([], ["-m", "ryzen_trainer.auto"])
    )  # fmt: skip
    assert watched == plain
    assert "__main__ package.train" in plain


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader_find_the_classes_of_the_script(tmp_path: Path, start: str) -> None:
    source = f"""
import torch
from torch.utils.data import DataLoader, Dataset
class Squares(Dataset):
    def __len__(self): return 4
    def __getitem__(self, index): return index * index
if __name__ == "__main__":
    loader = DataLoader(Squares(), num_workers=1, multiprocessing_context="{start}")
    print([int(each) for each in loader])
"""
    assert same_as_without(tmp_path, source).stdout == "[0, 1, 4, 9]\n"


def test_a_script_that_attaches_speaks_for_itself(tmp_path: Path) -> None:
    source = MODEL + (
        "import ryzen_trainer\n"
        "run = ryzen_trainer.attach()\n"
        "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "for step in run.steps(range(40, 43), start=40):\n"
        "    loss_of().backward(); optimizer.step()\n"
        "    run.report(tokens=5)\n"
        "print(net._forward_hooks, net._forward_pre_hooks)\n"
    )
    assert same_as_without(tmp_path, source).returncode == 0
    assert (progress(tmp_path).step, progress(tmp_path).tokens) == (43, 15)


def test_a_model_that_is_saved_whole_or_copied_has_nothing_of_ours(tmp_path: Path) -> None:
    source = TRAINING + (
        "import copy, pickle\n"
        "assert len(net._forward_hooks) == 1, 'it is watched'\n"
        "copied = copy.deepcopy(net)\n"
        "raw = pickle.dumps(net)\n"
        "assert b'ryzen' not in raw\n"
        "print(loss_of(copied), loss_of(pickle.loads(raw)))\n"
    )
    done = run(tmp_path, source)
    assert done.returncode == 0, done.stderr
    assert progress(tmp_path).steps_done == 8, "the copies say nothing"


def test_the_second_optimizer_of_two_makes_no_steps(tmp_path: Path) -> None:
    source = MODEL + (
        "critic = nn.Linear(4, 1)\n"
        "first = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "second = torch.optim.SGD(critic.parameters(), lr=0.1)\n"
        "for _ in range(5):\n"
        "    loss_of().backward(); first.step()\n"
        "    critic(torch.ones(2, 4)).sum().backward(); second.step()\n"
    )
    assert run(tmp_path, source).returncode == 0
    assert progress(tmp_path).steps_done == 5


def test_steps_go_on_from_those_of_a_restored_optimizer(tmp_path: Path) -> None:
    source = MODEL + (
        "import copy\n"
        "old = torch.optim.Adam(net.parameters())\n"
        "loss_of().backward()\n"
        "state = copy.deepcopy(old.state_dict())\n"
        "state['state'] = {i: dict(step=torch.tensor(70.), exp_avg=torch.zeros_like(p), "
        "exp_avg_sq=torch.zeros_like(p)) for i, p in enumerate(net.parameters())}\n"
        "old.load_state_dict(state)\n"
        "for _ in range(3):\n"
        "    loss_of().backward(); old.step()\n"
    )
    done = run(tmp_path, source)
    assert done.returncode == 0, done.stderr
    assert (progress(tmp_path).step, progress(tmp_path).steps_done) == (73, 3)


def test_a_step_in_a_closure_has_its_forward_and_backward(tmp_path: Path) -> None:
    source = MODEL + (
        "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "def closure():\n"
        "    optimizer.zero_grad(); loss = loss_of(); loss.backward(); return loss\n"
        "for _ in range(5): optimizer.step(closure)\n"
    )
    assert run(tmp_path, source).returncode == 0
    reader = page(tmp_path)
    assert progress(tmp_path).steps_done == 5
    assert {"forward", "backward", "optimizer"} <= set(reader.section_names())


def test_a_model_that_is_compiled_is_left_alone(tmp_path: Path) -> None:
    source = MODEL + (
        "net.compile(backend='eager', fullgraph=True)\n"
        "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "for _ in range(4):\n"
        "    loss_of().backward(); optimizer.step()\n"
        "print(len(net._forward_hooks), torch._dynamo.utils.counters['stats']['unique_graphs'])\n"
    )
    same_as_without(tmp_path, source)
    assert progress(tmp_path).steps_done == 4


def test_an_exception_within_the_counted_forward_leaves_nothing_behind(tmp_path: Path) -> None:
    source = MODEL + (
        "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "for step in range(6):\n"
        "    if step in (1, 2, 3):\n"
        "        try: net(torch.tensor([[99]]))\n"
        "        except IndexError: pass\n"
        "    loss_of().backward(); optimizer.step()\n"
        "from torch.utils._python_dispatch import _get_current_dispatch_mode_stack\n"
        "print(_get_current_dispatch_mode_stack())\n"
    )
    done = run(tmp_path, source)
    assert done.stdout == "[]\n", done.stderr
    assert progress(tmp_path).steps_done == 6


def test_a_fault_of_ours_ends_the_watching_and_not_the_training(tmp_path: Path) -> None:
    source = (
        "from ryzen_trainer.auto import model\n"
        "def broken(*_): raise ZeroDivisionError('ours')\n"
        "model.size_of = broken\n"
    ) + TRAINING
    done = run(tmp_path, source)
    assert done.returncode == 0
    assert "watches no longer: ZeroDivisionError: ours" in done.stderr
    assert done.stdout == run(tmp_path, TRAINING, auto=False).stdout
    assert progress(tmp_path).steps_done == 1


def test_outside_torchrun_a_script_just_runs(tmp_path: Path) -> None:
    done = run(tmp_path, "print('trained')", TORCHELASTIC_RUN_ID="")
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to run"),
        (["--fast"], "--fast is not allowed"),
        (["missing.py"], "missing.py: No such file or directory"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ryzen_trainer.auto", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"ryzen_trainer.auto: {said}")
    assert done.stderr.count("\n") == 1
