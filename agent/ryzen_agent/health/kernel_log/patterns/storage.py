"""File systems and the disks below: NFS servers that do not answer, NVMe time-outs, file systems gone read-only.

What these cost a job depends on what it keeps there, which the log does not say: told, not acted on. An NFS server
that is waited for is a condition until the kernel says OK (net/sunrpc/clnt.c says so once for each task that waited).
"""

from __future__ import annotations

import re

from ryzen_agent.health.kernel_log.finding import RECOVERY, Finding, one_line
from ryzen_agent.health.model import Kind

HINTS = (b": server ", b"EXT4-fs", b"XFS (", b"BTRFS ", b"Aborting journal", b"I/O error", b", dev ", b"vme nvme")

EXAMPLES = (
    "nfs: server 7.247.192.16 not responding, still trying",
    "nfs: server 7.247.192.16 not responding, timed out",
    "nfs: server 7.247.192.16 OK",
    "EXT4-fs (md0): Remounting filesystem read-only",
    "EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm python3: reading directory lblock 0",
    "XFS (nvme0n1): Filesystem has been shut down due to log error (0x2).",
    "BTRFS info (device sda1): forced readonly",
    "I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
    "nvme nvme4: I/O tag 22 (2016) opcode 0x2 (Admin Cmd) QID 0 timeout, reset controller",
    "nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff",
)

_NFS = re.compile(
    r"(?:nfs\d?|lockd|nfsacl|NFS): server (?P<server>\S{1,255}) (?P<state>not responding|OK)\b(?P<rest>[^\n]{0,40})"
)
_FILE_SYSTEM = re.compile(
    r"(?:EXT4-fs(?: error)? \((?:device )?(?P<ext>[^):\s]{1,64})\): (?:Remounting filesystem read-only|ext4_\w{1,60}:)"
    r"|XFS \((?P<xfs>[^):\s]{1,64})\): (?:Corruption |Filesystem has been shut down|log I/O error"
    r"|metadata I/O error|xfs_do_force_shutdown)"
    r"|BTRFS [a-z]{4,8} \(device (?P<btrfs>[^):\s]{1,64})[^)]{0,40}\): "
    r"(?:forced readonly|error|parent transid verify failed)"
    r"|Aborting journal on device (?P<journal>[^\s.]{1,64}))"
)
_BLOCK = re.compile(
    r"(?:blk_update_request: |print_req_error: |Buffer )?(?:I/O error|critical medium error)"
    r"(?:,| on) dev (?P<disk>[^\s,]{1,64})"
)
_NVME = re.compile(
    r"nvme (?P<disk>nvme\d{1,5}): (?:I/O [^\n]{0,200}timeout|controller is down|Device not ready|Abort status: "
    r"|Removing after probe failure|Disabling device after reset failure|Controller not ready)"
)  # fmt: skip

TIMED_OUT = "timed out"
"""What a soft mount says; nothing takes it back."""


def find(message: str) -> Finding | None:
    """What one message says of a file system or a disk. `device`: the server, the disk, the file system's device."""
    words = one_line(message)
    if found := _NFS.match(message):
        if found["state"] == "OK":
            return Finding("nfs", words, device=one_line(found["server"]), fault_class=RECOVERY, action="ignore")
        return Finding("nfs", words, device=one_line(found["server"]), fault_class="external")
    if found := _FILE_SYSTEM.match(message):
        device = next(each for each in found.groups() if each)
        return Finding("filesystem", words, device=one_line(device), fault_class="hw")
    if found := _NVME.match(message):
        return Finding("nvme", words, device=one_line(found["disk"]), fault_class="hw")
    if found := _BLOCK.match(message):
        kind: Kind = "nvme" if found["disk"].startswith("nvme") else "filesystem"
        return Finding(kind, words, device=one_line(found["disk"]), fault_class="hw")
    return None
