"""Asking a coordinator, from the command line. Every failure is one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from ryzen_coordinator.errors import RemoteError
from ryzen_coordinator.settings import ClientSettings
from ryzen_protos.v1 import operator_pb2 as pb
from ryzen_protos.v1 import operator_pb2_grpc

_TIMEOUT_S = 10.0


class Client:
    """One connection. Raises RemoteError from every call."""

    def __init__(self, settings: ClientSettings) -> None:
        self.address = settings.coordinator
        token = settings.token or (read_token(settings.token_file) if settings.token_file is not None else None)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel = grpc.insecure_channel(self.address)
        self._stub = operator_pb2_grpc.OperatorServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.close()

    def status(self) -> pb.ClusterStatus:
        with self._errors():
            answer: pb.ClusterStatus = self._stub.GetStatus(pb.StatusRequest(), **self._call())
            return answer

    def watch(self) -> Iterator[pb.ClusterStatus]:
        with self._errors():
            yield from self._stub.Watch(pb.StatusRequest(), metadata=self._metadata)

    def incidents(self, number: int | None = None, run_id: str = "", limit: int = 0) -> list[pb.Incident]:
        request = pb.IncidentsRequest(id=number, run_id=run_id, limit=limit)
        with self._errors():
            return list(self._stub.ListIncidents(request, **self._call()).incidents)

    def ledger(self, run_id: str = "") -> pb.Ledger:
        with self._errors():
            answer: pb.Ledger = self._stub.GetLedger(pb.LedgerRequest(run_id=run_id), **self._call())
            return answer

    def evict(self, node: str, reason: str) -> pb.OperatorReply:
        with self._errors():
            answer: pb.OperatorReply = self._stub.Evict(pb.EvictRequest(node=node, reason=reason), **self._call())
            return answer

    def readmit(self, node: str) -> pb.OperatorReply:
        with self._errors():
            answer: pb.OperatorReply = self._stub.Readmit(pb.ReadmitRequest(node=node), **self._call())
            return answer

    def _call(self) -> dict[str, object]:
        return {"metadata": self._metadata, "timeout": _TIMEOUT_S}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.UNAVAILABLE:
                raise RemoteError(
                    f"no coordinator answers at {self.address}: start `ryzen-coordinator serve` there, "
                    "or give --coordinator HOST:PORT"
                ) from error
            raise RemoteError(details or f"{self.address}: {code.name}") from error


def read_token(path: Path) -> str:
    """The token in a file: its only word, or the operator line of a coordinator's token file. Raises RemoteError."""
    try:
        words = path.read_text().split()
    except OSError as error:
        raise RemoteError(f"token file {path}: {error.strerror}") from error
    if len(words) == 1:
        return words[0]
    named = dict(zip(words[::2], words[1::2], strict=False))
    token = named.get("operator") or named.get("read")
    if token is None:
        raise RemoteError(f"token file {path}: neither one token nor lines 'operator TOKEN', 'read TOKEN'")
    return token
