"""What NCCL and GPUDirect leave in the kernel's log: a crash inside the library, the peer memory module's complaints.

Crashes elsewhere are not told: the process's exit is seen anyway, and only the library's name adds something.
"""

from __future__ import annotations

import re

from ryzen_agent.health.kernel_log.finding import Finding, name, number, one_line

HINTS = (b"bnccl", b"vidia-peermem", b"vidia_peermem")

EXAMPLES = (
    "pt_main_thread[2536443]: segfault at 7f797fe00000 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in"
    " libnccl.so.2[7f7c7ac00000+d3d3000]",
    "nvidia-peermem nv_get_p2p_free_callback:127 ERROR detected invalid context, skipping further processing",
)

_CRASH = re.compile(
    r"(?:traps: )?(?P<name>[^\n]{1,64})\[(?P<pid>\d{1,10})\]:? (?:segfault at|general protection)"
    r"[^\n]{0,200} in libnccl\.so"
)
_PEERMEM = re.compile(r"nvidia[-_]peermem:? [^\n]{0,120}(?:ERROR|[Ff]ailed)")


def find(message: str) -> Finding | None:
    """A crash in libnccl, or an error of nvidia-peermem."""
    if found := _CRASH.match(message):
        pid, process = number(found["pid"]), name(found["name"])
        return Finding("nccl", one_line(message), fault_class="app", pid=pid, process=process)
    if _PEERMEM.match(message):
        return Finding("other", one_line(message), device="nvidia-peermem", fault_class="sw")
    return None
