"""Who may do what: three tokens, three rights. On loopback without a token file everybody on the host may.

A token comes as metadata `authorization: Bearer TOKEN`. They live in one private file, made at the first start:

    node      4f...   agents: attach a node
    operator  9c...   people: everything of OperatorService
    read      a1...   dashboards: status and incidents
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import grpc

from ryzen_coordinator.errors import TokenError

_TOKEN_BYTES = 24


class Right(Enum):
    NODE = "node"
    OPERATOR = "operator"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Tokens:
    """The three tokens. None in place of this whole object: no token is asked for."""

    node: str
    operator: str
    read: str

    def rights(self, token: str) -> frozenset[Right]:
        """What a token allows; nothing for a wrong one. Compares in constant time."""
        found = set()
        if hmac.compare_digest(token.encode(), self.node.encode()):
            found.add(Right.NODE)
        if hmac.compare_digest(token.encode(), self.operator.encode()):
            found |= {Right.OPERATOR, Right.READ}
        if hmac.compare_digest(token.encode(), self.read.encode()):
            found.add(Right.READ)
        return frozenset(found)


def read_tokens(path: Path) -> Tokens:
    """The tokens of a file that only its owner may read. Raises TokenError."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except OSError as error:
        raise TokenError(f"token file {path}: {error.strerror}") from error
    if mode & 0o077:
        raise TokenError(f"token file {path} is open to other users: chmod 600 {path}")
    words = dict(re.findall(r"^\s*(\w+)\s+(\S+)\s*$", text, re.MULTILINE))
    missing = [right.value for right in Right if right.value not in words]
    if missing:
        raise TokenError(f"token file {path}: no line '{missing[0]} TOKEN' (rights: node, operator, read)")
    return Tokens(words["node"], words["operator"], words["read"])


def make_tokens(path: Path) -> Tokens:
    """New tokens in a new private file. Raises TokenError."""
    tokens = Tokens(*(secrets.token_urlsafe(_TOKEN_BYTES) for _ in range(3)))
    text = f"node {tokens.node}\noperator {tokens.operator}\nread {tokens.read}\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError as error:
        raise TokenError(f"token file {path}: {error.strerror}: give --token-file a path that can be made") from error
    return tokens


async def require(tokens: Tokens | None, context: grpc.aio.ServicerContext, right: Right) -> None:
    """End the call unless its token has the right."""
    if tokens is None:
        return
    given = dict(context.invocation_metadata() or ()).get("authorization", "")
    scheme, _, token = str(given).partition(" ")
    if not token or scheme.lower() != "bearer":
        await context.abort(
            grpc.StatusCode.UNAUTHENTICATED,
            "this coordinator asks for a token: give --token, --token-file or RYZEN_TOKEN",
        )
    rights = tokens.rights(token)
    if not rights:
        await context.abort(
            grpc.StatusCode.UNAUTHENTICATED,
            "the token is not one of this coordinator's: see the file that it named at its start",
        )
    if right not in rights:
        allowed = ", ".join(sorted(each.value for each in rights))
        await context.abort(
            grpc.StatusCode.PERMISSION_DENIED, f"this token is for {allowed}; the call needs the {right.value} token"
        )
