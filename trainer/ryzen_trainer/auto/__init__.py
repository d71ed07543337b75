"""`python -m ryzen_trainer.auto train.py ...`: a script that knows nothing of Ryzen is seen all the same.

    torchrun ... -m ryzen_trainer.auto train.py --its options
    torchrun ... --no-python ryzen-worker -m ryzen_trainer.auto train.py --its options
    ... -m ryzen_trainer.auto -m package.train --its options

The script runs as `python train.py` would run it (`script`). Before its first line the rank is attached; once torch's
optimizers are imported, by the script and when it likes, they are watched (`watcher`) through the hooks that PyTorch
has for that:

    step        the first optimizer that steps is the training's: its step done is the next step begun
    sections    "forward" of the outermost module that has its parameters, "backward", "optimizer", "data"
    tokens      of an integer (batch, sequence) that the outermost module is called with; else samples alone
    loss        where the outermost module returns it, as models of Hugging Face do
    gradients   their norm, now and then (`gradients`); nothing is ever clipped or skipped
    FLOPs       of one forward, counted while it is done (`throughput.counting`); twice that for its backward

A script that calls `ryzen_trainer.attach()`, and the callbacks of `ryzen_trainer.integrations` do, speaks for itself:
from then on nothing here says a word. What is not seen is not told: no loss that the script computes by itself, no
checkpoint; no sections, tokens or FLOPs of a model whose `forward` nobody calls or that `torch.compile` has taken.
"""
