"""Tokens and addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ryzen_coordinator.errors import ListenError, TokenError
from ryzen_coordinator.server.app import choose_tokens, is_loopback, join_address, split_address
from ryzen_coordinator.server.auth import Right, Tokens, make_tokens, read_tokens

TOKENS = Tokens("n" * 32, "o" * 32, "r" * 32)


@pytest.mark.parametrize(
    ("token", "rights"),
    [
        ("n" * 32, {Right.NODE}),
        ("o" * 32, {Right.OPERATOR, Right.READ}),
        ("r" * 32, {Right.READ}),
        ("", set()),
        ("N" * 32, set()),
    ],
)
def test_each_token_has_its_own_right(token: str, rights: set[Right]) -> None:
    assert TOKENS.rights(token) == rights


def test_tokens_are_made_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "tokens"
    made = make_tokens(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_tokens(path) == made
    assert len({made.node, made.operator, made.read}) == 3


def test_a_token_file_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    make_tokens(path)
    path.chmod(0o644)
    with pytest.raises(TokenError, match=f"open to other users: chmod 600 {path}"):
        read_tokens(path)


def test_a_file_without_tokens_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("node abc\n")
    path.chmod(0o600)
    with pytest.raises(TokenError, match="no line 'operator TOKEN'"):
        read_tokens(path)


def test_on_loopback_no_token_is_asked_for(tmp_path: Path) -> None:
    assert choose_tokens(None, tmp_path, "127.0.0.1") is None
    assert list(tmp_path.iterdir()) == []


def test_beyond_loopback_tokens_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = choose_tokens(None, tmp_path, "0.0.0.0")  # noqa: S104
    assert first is not None
    assert first.node in capsys.readouterr().out
    assert choose_tokens(None, tmp_path, "0.0.0.0") == first  # noqa: S104
    assert first.node not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "host", "port"), [("127.0.0.1:7700", "127.0.0.1", 7700), ("[::1]:0", "::1", 0), ("node.x:1", "node.x", 1)]
)
def test_addresses_are_read_and_written(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)
    assert join_address(host, port) == text


@pytest.mark.parametrize("text", ["7700", "host", ":7700", "host:port", "::1:7700", "host:70000"])
def test_a_wrong_address_says_what_is_wanted(text: str) -> None:
    with pytest.raises(ListenError, match="is not HOST:PORT"):
        split_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.8.0.1", True), ("::1", True), ("0.0.0.0", False), ("gpu-1", False)],  # noqa: S104
)
def test_loopback_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
