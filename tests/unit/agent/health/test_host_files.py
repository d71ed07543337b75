"""Parsers of /proc and of control groups, on text as kernels write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent.health import host_files

PRESSURE = """\
some avg10=0.66 avg60=0.38 avg300=0.39 total=6692034
full avg10=0.00 avg60=12.50 avg300=0.01 total=2375469
"""
MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resv_strict
31 27 254:16 / /data\\040one rw,relatime shared:7 master:2 - ext4 /dev/vdb ro,errors=remount-ro
32 27 254:32 / /backup ro,relatime - xfs /dev/vdc ro
33 27 0:52 / /shared rw,relatime shared:9 - nfs4 10.0.0.7:/export/home rw,vers=4.2,hard,proto=tcp
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier comp
    lo: 96041234  739880    0    0    0     0          0         0 96041234  739880    0    0    0     0       0       0
  eth0:291420158  201345    7    2    0     0          0         0   624533    9211    3    0    0     0       0       0
"""
SNMP = """\
Ip: Forwarding DefaultTTL InReceives
Ip: 1 64 740012
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens OutSegs RetransSegs InErrs
Tcp: 1 200 120000 -1 121 735362 2877 0
"""


def test_memory_is_in_bytes_and_plain_counts_stay_counts() -> None:
    memory = host_files.parse_meminfo("MemTotal:       24684092 kB\nHugePages_Total:       3\n\nrubbish\n")
    assert memory == {"MemTotal": 24684092 * 1024, "HugePages_Total": 3}


def test_pressure_has_a_line_for_some_and_one_for_all() -> None:
    pressure = host_files.parse_pressure(PRESSURE)
    assert pressure["some"]["avg10"] == 0.66
    assert pressure["full"]["avg60"] == 12.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/job.slice/rank\n", "/job.slice/rank"),
        ("4:memory:/old\n0::/\n", "/"),
        ("4:memory:/only/the/first/version\n", None),
        ("0::/../../outside\n", None),
        ("", None),
    ],
)
def test_a_control_group_is_the_path_in_the_unified_hierarchy(text: str, expected: str | None) -> None:
    assert host_files.parse_cgroup(text) == expected


def test_limits_and_flat_files_of_control_groups() -> None:
    assert host_files.parse_limit("max") is None
    assert host_files.parse_limit("8589934592") == 8 << 30
    assert host_files.parse_flat("low 0\nhigh 3\noom_kill 2\n") == {"low": 0, "high": 3, "oom_kill": 2}


def test_a_mount_tells_what_a_person_set_from_what_the_kernel_set() -> None:
    mounts = {each.point: each for each in host_files.parse_mountinfo(MOUNTS)}
    assert (mounts["/data one"].was_mounted_writable, mounts["/data one"].is_read_only) == (True, True)
    assert (mounts["/backup"].was_mounted_writable, mounts["/backup"].is_read_only) == (False, True)
    assert (mounts["/"].source, mounts["/"].device, mounts["/"].is_read_only) == ("/dev/vda", "254:0", False)
    assert mounts["/shared"].kind == "nfs4"


def test_counters_of_interfaces_even_without_a_blank_after_the_name() -> None:
    eth0 = host_files.parse_net_dev(NET_DEV)["eth0"]
    assert (eth0.received_bytes, eth0.received_packets, eth0.received_errors) == (291420158, 201345, 7)
    assert (eth0.sent_bytes, eth0.sent_packets, eth0.sent_errors) == (624533, 9211, 3)


def test_tcp_counts_are_found_by_their_names() -> None:
    tcp = host_files.parse_snmp(SNMP)
    assert (tcp["OutSegs"], tcp["RetransSegs"]) == (735362, 2877)
    assert host_files.parse_snmp("Udp: InDatagrams\nUdp: 5\n") == {}


def test_both_kinds_of_switches_are_summed_and_one_alone_is_unknown() -> None:
    assert host_files.parse_switches("voluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t41\n") == 53
    assert host_files.parse_switches("voluntary_ctxt_switches:\t12\n") is None


@given(
    st.text()
    | st.lists(st.sampled_from(["Tcp: ", " - ", "some avg10=", "0::", "kB", ":", "1 ", "\n", "²", "x"])).map("".join)
)
def test_no_parser_ever_raises(text: str) -> None:
    for parse in (
        host_files.parse_meminfo, host_files.parse_flat, host_files.parse_pressure, host_files.parse_cgroup,
        host_files.parse_net_dev, host_files.parse_snmp, host_files.parse_switches, host_files.parse_limit,
    ):  # fmt: skip
        parse(text)
    list(host_files.parse_mountinfo(text))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), min_size=1))
def test_a_mount_point_may_have_any_name(name: str) -> None:
    escaped = "".join(f"\\{ord(each):03o}" if each in " \t\n\\" else each for each in name)
    (mount,) = host_files.parse_mountinfo(f"27 1 254:0 / /{escaped} rw - ext4 /dev/vda rw")
    assert mount.point == f"/{name}"
