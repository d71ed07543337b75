"""DLRover: `dlrover-run` in torchrun's place, with a master of the job beside the nodes.

The master is the `local` platform's: the others need Kubernetes. It observes no hangs (only the distributed one
does, and that as a notice). dlrover 0.6.1 starts no master of its own on torch 2.13, so the bench does.
"""

from __future__ import annotations

from ryzen_lab.bench.peers.base import Peer, Variant, program_of
from ryzen_lab.launcher import Launcher

_NAME = "dlrover"

PEER = Peer(
    name=_NAME,
    package="dlrover",
    requirements=("dlrover[k8s]==0.6.1",),
    variants=(
        Variant(
            id="dlrover",
            name="DLRover",
            note="`dlrover-run` at its defaults, the script unchanged; a local master, started by the bench. Its lost "
            "nodes are replaced by a Kubernetes operator, which is not here: the spare is not taken, the job shrinks.",
            launcher=Launcher(
                program_of(_NAME, "dlrover-run"),
                rendezvous=(),
                environment={
                    "DLROVER_MASTER_ADDR": "{endpoint}",
                    "NODE_RANK": "{node}",
                    "NODE_ID": "{node}",
                    "NODE_NUM": "{nodes}",
                    "JOB_NAME": "{run_id}",
                },
                master=(
                    program_of(_NAME, "python"), "-m", "dlrover.python.master.main",
                    "--platform", "local", "--port", "{port}", "--node_num", "{nodes}", "--job_name", "{run_id}",
                ),
            ),
            options={"rdzv": "c10d", "bare": True},
        ),
    ),
)  # fmt: skip
