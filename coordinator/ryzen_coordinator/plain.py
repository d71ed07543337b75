"""Messages as plain JSON values: every field by its name on the wire, zeros too, 64-bit figures as numbers.

protobuf's own MessageToDict writes 64-bit figures as strings, which every reader of --json would have to undo.
A field declared `optional` that is not set is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message


def plain(message: Message) -> dict[str, Any]:
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) if isinstance(item, Message) else item for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return plain(value) if isinstance(value, Message) else value
