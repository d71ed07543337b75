"""What a process says of itself, on standard error: lines for people on a terminal, one JSON object a line elsewhere.

    12:03:44.120 ryzen-agent: warning: collector gpu cannot look: ...
    {"time":1764331424.12,"level":"warning","logger":"ryzen_agent.health.runner","message":"collector gpu ..."}

Standard logging and structlog both end here, so that a library's complaint looks like one of ours.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Renderer = Callable[[WrappedLogger, str, EventDict], str]


def set_up(process: str, as_json: bool | None) -> None:
    """Everything at level info and above goes to standard error. `as_json`: None for whatever reads it."""
    if as_json is None:
        as_json = not sys.stderr.isatty()
    before: list[Processor] = [structlog.stdlib.add_log_level, structlog.stdlib.PositionalArgumentsFormatter()]
    handler = logging.StreamHandler(sys.stderr)
    last: Renderer = _json if as_json else _for_people(process)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[last], foreign_pre_chain=before))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    structlog.configure(
        processors=[
            *before,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _parts(event: EventDict) -> tuple[logging.LogRecord, str, str, dict[str, Any]]:
    """The record, its message, its exception as text, and its other fields."""
    record: logging.LogRecord = event.pop("_record")
    event.pop("_from_structlog", None)
    event.pop("level", None)
    exception = event.pop("exception", "")
    raised = event.pop("exc_info", None) or record.exc_info
    if not exception and raised:
        exception = logging.Formatter().formatException(raised)
    return record, str(event.pop("event")), str(exception), dict(event)


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    record, message, exception, fields = _parts(event)
    line = {
        "time": round(record.created, 6),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message,
        **{name: value for name, value in fields.items() if name not in {"time", "logger", "message"}},
    }
    return json.dumps({**line, **({"exception": exception} if exception else {})}, default=str)


def _for_people(process: str) -> Renderer:
    def render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        record, message, exception, fields = _parts(event)
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        more = "".join(f" {name}={value}" for name, value in sorted(fields.items()))
        text = f"{stamp}.{int(record.msecs):03d} {process}: {level}{message}{more}"
        return f"{text}\n{exception}" if exception else text

    return render
