"""Options: one line that names the option, the value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ryzen_agent.identity import address_towards, name_from_host
from ryzen_agent.settings import AgentSettings, read_token, split_target
from ryzen_agent.warm import environment
from ryzen_protos.settings import SettingsError, load


def given(file: Path | None = None, **flags: object) -> AgentSettings:
    return load(AgentSettings, flags, file)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"coordinator": "somewhere"}, "option --coordinator: 'somewhere' is not allowed"),
        ({"coordinator": "host:99999"}, "option --coordinator: 'host:99999' is not allowed"),
        ({"coordinator": "fe80::1:7700"}, "[ADDRESS]:PORT for IPv6"),
        ({"node": "a b"}, "option --node: node name 'a b' is not allowed"),
        ({"node_rank": "-1"}, "option --node-rank: '-1' is not allowed"),
        ({"node_rank": "first"}, "option --node-rank: 'first' is not allowed"),
        ({"labels": "rack"}, "option --labels: 'rack' is not allowed"),
        ({"preload": "a,b c"}, "option --preload: 'b c' is not allowed: names of modules"),
        ({"warm": "hot"}, "option --warm: 'hot' is not allowed"),
        ({"scan_interval_s": "0"}, "option --scan-interval-s: '0' is not allowed"),
        ({"gpu_interval_s": "0"}, "option --gpu-interval-s: '0' is not allowed"),
        ({"power_cap_share": "1.5"}, "option --power-cap-share: '1.5' is not allowed"),
        ({"expected_gpus": "all"}, "option --expected-gpus: 'all' is not allowed"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(flags: dict[str, object], line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(AgentSettings, flags)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flag_before_environment_before_file_before_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("coordinator: file:1\nnode: from-file\nlabels: {rack: r1}\n")
    monkeypatch.setenv("RYZEN_COORDINATOR", "environment:2")
    monkeypatch.setenv("RYZEN_NODE_RANK", "7")
    settings = given(file, node_rank="3")
    assert (settings.coordinator, settings.node, settings.node_rank) == ("environment:2", "from-file", 3)
    assert settings.labels == {"rack": "r1"}
    assert settings.scan_interval_s == 0.125


def test_labels_in_the_environment_are_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYZEN_LABELS", "rack=r1,switch=s=2")
    assert given().labels == {"rack": "r1", "switch": "s=2"}


def test_an_unknown_key_names_itself(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("coordnator: x:1\n")
    with pytest.raises(SettingsError, match="coordnator"):
        given(file)


@pytest.mark.parametrize(("text", "expected"), [("h:1", ("h", 1)), ("[::1]:7700", ("::1", 7700))])
def test_targets(text: str, expected: tuple[str, int]) -> None:
    assert split_target(text) == expected


def test_the_token_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    assert read_token(given(token_file=str(tmp_path / "token"))) == "secret"
    assert read_token(given(token="given", token_file=str(tmp_path / "token"))) == "given"  # noqa: S106
    assert read_token(given()) is None


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_a_token_file_without_a_token_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(SettingsError, match="option --token-file"):
        read_token(given(token_file=str(tmp_path / "token")))


def test_a_host_name_is_made_fit_for_a_node_name() -> None:
    assert name_from_host("gpu_01.cluster") == "gpu_01.cluster"
    assert name_from_host("gpu 01/ä") == "gpu-01--"
    assert name_from_host("...") == "node"


def test_the_address_is_the_one_that_leads_to_the_coordinator() -> None:
    assert address_towards("127.0.0.1", 7700) == "127.0.0.1"
    assert address_towards("::1", 7700) == "::1"


@pytest.mark.parametrize("text", ["secret\n", "node secret\noperator other\nread third\n"])
def test_a_token_file_has_the_token_alone_or_is_the_coordinators_own(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    assert read_token(load(AgentSettings, {"token_file": file})) == "secret"


@pytest.mark.parametrize("text", ["", "two words\n", "operator other\nread third\n"])
def test_a_token_file_without_a_node_token_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"option --token-file: .*lines of which one is 'node TOKEN'") as caught:
        read_token(load(AgentSettings, {"token_file": file}))
    assert len(str(caught.value).splitlines()) == 1


def test_health_is_on_and_what_its_collectors_are_told_comes_from_flags_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("infiniband_exclude: [mlx5_3, mlx5_4]\nexpected_gpus: 8\n")
    monkeypatch.setenv("RYZEN_HEALTH_WITHOUT", "clock,host")
    health = given(file, kmsg_path="/somewhere", gpu_interval_s="2").health_settings(tmp_path)
    assert health is not None
    assert (health.kmsg_path, health.gpu_interval_s, health.expected_gpus) == (Path("/somewhere"), 2.0, 8)
    assert health.infiniband_exclude == ("mlx5_3", "mlx5_4")
    assert health.without == ("clock", "host")
    assert health.state_folder == tmp_path
    assert health.power_cap_share is None


def test_health_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(health=False).health_settings(tmp_path) is None
    monkeypatch.setenv("RYZEN_HEALTH", "false")
    assert given().health_settings(tmp_path) is None
    assert given(health=True).health_settings(tmp_path) is not None


def test_modules_to_preload_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("preload: [transformers, mypkg.model]\nwarm: context\n")
    assert environment(given(file)) == {"RYZEN_PRELOAD": "transformers,mypkg.model", "RYZEN_WARM": "context"}
    monkeypatch.setenv("RYZEN_PRELOAD", "a, b.c,")
    assert given(file).preload == ("a", "b.c")
    assert given(file, preload="d", warm="fork").preload == ("d",)
    assert environment(given(preload="", warm="fork")) == {"RYZEN_PRELOAD": "", "RYZEN_WARM": "fork"}
