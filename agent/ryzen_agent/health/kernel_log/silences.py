"""NFS servers that do not answer: the one thing the log says that stands until it takes it back.

The kernel says OK once for each task that had waited, but limits the rate of these lines, and says none for a soft
mount, which gives up. So a silence also passes when the log has not repeated it for long.
"""

from __future__ import annotations

from typing import NamedTuple

from ryzen_agent.health.kernel_log.finding import Finding
from ryzen_agent.health.kernel_log.patterns import storage
from ryzen_agent.health.model import Condition

STANDS_S = 1800.0
"""Of a mount that waits. Lower forgets a server that every task has been waiting for since."""
STANDS_TIMED_OUT_S = 300.0
"""Of a soft mount: each of its requests that fails says so again."""
SERVERS_MAX = 64


class _Silence(NamedTuple):
    message: str
    until_s: float


class Silences:
    """Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._of: dict[str, _Silence] = {}

    def hear(self, finding: Finding, now_s: float) -> bool:
        """Any finding. Whether what stands has changed."""
        if finding.kind != "nfs":
            return False
        server = finding.device
        if finding.is_recovery:
            return self._of.pop(server, None) is not None
        is_news = server not in self._of
        if is_news and len(self._of) >= SERVERS_MAX:
            return False
        stands_s = STANDS_TIMED_OUT_S if storage.TIMED_OUT in finding.message else STANDS_S
        self._of[server] = _Silence(finding.message, now_s + stands_s)
        return is_news

    def conditions(self, now_s: float) -> tuple[Condition, ...]:
        """Those that stand."""
        self._of = {server: silence for server, silence in self._of.items() if silence.until_s > now_s}
        return tuple(Condition("nfs.not_responding", each.message, server) for server, each in self._of.items())
