"""What the kernel log and the GPU driver say, from the line or the reading to what becomes of the job."""

from typing import Any

import pytest

from .trials import Trial, assert_blamed, assert_recovered


def reasons(result: dict[str, Any]) -> str:
    return " ".join(each["reason"] for each in result["incidents"])


def assert_left_alone(result: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    assert_recovered(result, undisturbed)
    assert (result["steps_lost"], result["generations"], result["evicted"]) == (0, 1, [])
    assert result["false_actions"] == 0


def test_a_gpu_off_the_bus_costs_its_node_the_place_and_a_spare_takes_it(
    trial: Trial, undisturbed: dict[str, Any]
) -> None:
    result = trial("--fault", "xid", "--fault-rank", "1", "--spares", "1")
    assert_blamed(result, "hardware")
    assert result["verdict"]["action"] == "evict"
    assert (result["evicted"], result["world"]) == (["node-0"], ["node-2", "node-1"])
    assert_recovered(result, undisturbed)


def test_one_page_fault_is_the_applications_and_restarts_it_in_place(trial: Trial, undisturbed: dict[str, Any]) -> None:
    result = trial("--fault", "xid", "--xid", "31", "--spares", "1")
    assert_blamed(result, "exit")
    assert (result["verdict"]["action"], result["evicted"], result["generations"]) == ("restart", [], 2)
    assert_recovered(result, undisturbed)


@pytest.mark.long
def test_a_page_fault_that_is_on_the_same_gpu_again_after_the_restart_evicts(
    trial: Trial, undisturbed: dict[str, Any]
) -> None:
    twice = ("--fault", "xid,xid@running", "--xid", "31", "--fault-rank", "3,3", "--spares", "1", "--at-step", "20")
    result = trial(*twice)
    newest = result["incidents"][-1]  # the only one, or the second where a step was done between the two
    assert (newest["class"], newest["action"]) == ("hardware", "evict")
    assert (result["evicted"], result["generations"]) == (["node-1"], 3)
    assert "the fault follows the node" in reasons(result)
    assert_recovered(result, undisturbed)


@pytest.mark.long
def test_page_faults_on_two_nodes_at_once_are_the_applications_and_evict_nobody(
    trial: Trial, undisturbed: dict[str, Any]
) -> None:
    result = trial("--fault", "xid,xid", "--xid", "31", "--fault-rank", "1,3", "--spares", "1")
    assert (result["verdict"]["class"], result["evicted"]) == ("exit", [])
    assert "application" in reasons(result)
    assert_recovered(result, undisturbed)


@pytest.mark.long
def test_the_clean_up_after_our_own_kill_changes_nothing(trial: Trial, undisturbed: dict[str, Any]) -> None:
    result = trial("--fault", "kill,xid@rendezvous", "--xid", "45")
    assert_recovered(result, undisturbed)
    assert (result["generations"], result["evicted"], len(result["incidents"])) == (2, [], 1)
    assert result["verdict"]["class"] == "exit"


@pytest.mark.long
def test_a_driver_that_wants_a_reset_evicts(trial: Trial, undisturbed: dict[str, Any]) -> None:
    result = trial("--fault", "xid", "--xid", "154", "--spares", "1")
    assert_blamed(result, "hardware")
    assert result["evicted"] == [result["fault"]["node"]]
    assert_recovered(result, undisturbed)


@pytest.mark.long
def test_a_driver_that_has_recovered_the_gpu_changes_nothing(trial: Trial, undisturbed: dict[str, Any]) -> None:
    assert_left_alone(trial("--fault", "xid", "--xid", "154:none"), undisturbed)


@pytest.mark.long
def test_a_gpu_that_is_lost_in_a_running_agent_evicts_its_node(trial: Trial, undisturbed: dict[str, Any]) -> None:
    result = trial("--fault", "gpu-lost", "--spares", "1")
    assert_blamed(result, "hardware")
    assert result["evicted"] == [result["fault"]["node"]]
    assert_recovered(result, undisturbed)


@pytest.mark.long
def test_a_hot_gpu_is_told_and_nothing_is_done(trial: Trial) -> None:
    result = trial("--fault", "thermal", "--at-step", "20", steps=600)
    assert (result["steps_lost"], result["generations"], result["false_actions"]) == (0, 1, 0)
    assert_blamed(result, "thermal")
    assert result["verdict"]["action"] == "advise"
