"""The hook server as a WSGI application: one path for each media server, and ``/healthz``."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

from rootstream_db.correlation import correlation
from rootstream_db.errors import RootStreamError, ValidationError
from rootstream_db.security.tokens import visible_prefix
from rootstream_db.services.ingest.hooks import (
    HookAdapter,
    HookAnswer,
    HookCall,
    first_values,
    split_query,
)
from rootstream_db.services.ingest.mediamtx import MediaMtxAdapter
from rootstream_db.services.ingest.nginx_rtmp import NginxRtmpAdapter
from rootstream_db.services.ingest.requests import Decision, HookEvent, IngestRequest
from rootstream_db.services.ingest.srs import SrsAdapter

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pydantic import SecretStr

MAX_BODY_BYTES: Final = 64 * 1024
"""The longest hook seen is 4 KB; nginx-rtmp limits names and queries to 256 bytes each."""

RETRY_AFTER_SECONDS: Final = 2
HEALTH_PATH: Final = "/healthz"
Authorize: TypeAlias = Callable[[IngestRequest], Decision]
_logger = logging.getLogger(__name__)


class _RefusedCall(Exception):  # noqa: N818 - not an error of the server: an answer
    """The call goes no further; it is answered as said."""

    def __init__(self, status: HTTPStatus, reason: str, *headers: tuple[str, str]) -> None:
        super().__init__(reason)
        self.answer = HookAnswer(status=status, body=f"{reason}\n".encode(), headers=headers)


class IngestApplication:
    """Answers the hooks of every supported media server.

    ``/nginx-rtmp``, ``/srs`` and ``/mediamtx/…`` take hooks, ``/healthz`` says whether hooks can
    be answered. A hook that cannot be decided, because the database is away or for any other
    reason, is answered with an error, which every media server takes for a refusal.

    Names of streams may be keys: neither bodies nor queries are ever logged.

    Args:
        authorize: decides, usually ``IngestAuthorizer.authorize``.
        check: raises when hooks cannot be answered, usually ``Database.ping``.
        hook_token: what media servers must present, as ``?token=`` of the hook's URL, as
            ``Authorization: Bearer`` or as ``X-Hook-Token``.
    """

    def __init__(
        self,
        authorize: Authorize,
        *,
        check: Callable[[], object],
        hook_token: SecretStr | None = None,
    ) -> None:
        self._authorize = authorize
        self._check = check
        self._token = hook_token
        self._adapters: dict[str, HookAdapter] = {
            "nginx-rtmp": NginxRtmpAdapter(),
            "mediamtx": MediaMtxAdapter(),
            "srs": SrsAdapter(),
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one HTTP request."""
        answer = self._answer(environ)
        status = f"{answer.status.value} {answer.status.phrase}"
        headers = list(answer.headers)
        if answer.status is not HTTPStatus.NO_CONTENT:
            headers.append(("Content-Type", answer.content_type))
            headers.append(("Content-Length", str(len(answer.body))))
        start_response(status, headers)
        return [answer.body] if answer.body and environ.get("REQUEST_METHOD") != "HEAD" else []

    def _answer(self, environ: WSGIEnvironment) -> HookAnswer:
        try:
            with _failures_as_answers():
                if environ.get("PATH_INFO") == HEALTH_PATH:
                    return self._health(environ)
                return self._hook(environ)
        except _RefusedCall as refused:
            return refused.answer

    def _health(self, environ: WSGIEnvironment) -> HookAnswer:
        _require_method(environ, ("GET", "HEAD"))
        self._check()
        return HookAnswer(status=HTTPStatus.OK, body=b"ok\n")

    def _hook(self, environ: WSGIEnvironment) -> HookAnswer:
        route = self._route(environ)
        options, appended = split_query(environ.get("QUERY_STRING", ""))
        named = first_values(options)
        self._require_token(environ, named)
        call = HookCall(
            method=_require_method(environ, route.adapter.methods),
            action=route.action,
            options=named,
            appended=appended,
            body=_body(environ),
            remote_address=environ.get("REMOTE_ADDR") or "local",
        )
        return self._decide(route.adapter, call)

    def _decide(self, adapter: HookAdapter, call: HookCall) -> HookAnswer:
        request = adapter.read(call)
        if request is None:
            return adapter.acknowledge()
        with correlation(request.owner):
            decision = self._authorize(request)
        log_decision(request, decision)
        return adapter.answer(request, decision)

    def _route(self, environ: WSGIEnvironment) -> _Route:
        name, _, action = environ.get("PATH_INFO", "").strip("/").partition("/")
        adapter = self._adapters.get(name)
        if adapter is None or action not in adapter.actions:
            raise _RefusedCall(HTTPStatus.NOT_FOUND, "no hook has this path")
        return _Route(adapter, action)

    def _require_token(self, environ: WSGIEnvironment, options: Mapping[str, str]) -> None:
        if self._token is None:
            return
        scheme, _, bearer = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        presented = (
            options.get("token"),
            environ.get("HTTP_X_HOOK_TOKEN"),
            bearer.strip() if scheme.lower() == "bearer" else None,
        )
        expected = self._token.get_secret_value().encode()
        given = next((token for token in presented if token), "").encode("utf-8", "replace")
        if not hmac.compare_digest(expected, given):
            raise _RefusedCall(HTTPStatus.FORBIDDEN, "the hook token is missing or wrong")


@dataclass(frozen=True, slots=True)
class _Route:
    adapter: HookAdapter
    action: str


@contextmanager
def _failures_as_answers() -> Iterator[None]:
    """Refuse what cannot be understood or decided; a hook never gets through by accident."""
    try:
        yield
    except _RefusedCall:
        raise
    except ValidationError as error:
        raise _RefusedCall(HTTPStatus.BAD_REQUEST, str(error)) from error
    except RootStreamError as error:
        _logger.error("hook refused, cannot decide: %s", error)  # noqa: TRY400 - known, one line
        wait = ("Retry-After", str(RETRY_AFTER_SECONDS))
        status = HTTPStatus.SERVICE_UNAVAILABLE
        raise _RefusedCall(status, "the data layer is not available", wait) from error
    except Exception as error:
        _logger.exception("hook refused, unexpected failure")
        raise _RefusedCall(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected failure") from error


def _require_method(environ: WSGIEnvironment, allowed: tuple[str, ...]) -> str:
    method: str = environ.get("REQUEST_METHOD", "")
    if method not in allowed:
        listed = ", ".join(allowed)
        status = HTTPStatus.METHOD_NOT_ALLOWED
        raise _RefusedCall(status, f"use {listed}", ("Allow", listed))
    return method


def _body(environ: WSGIEnvironment) -> bytes:
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        raise _RefusedCall(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
    if int(length) > MAX_BODY_BYTES:
        limit = f"a hook has at most {MAX_BODY_BYTES} bytes"
        raise _RefusedCall(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, limit)
    stream: IO[bytes] = environ["wsgi.input"]
    return stream.read(int(length))


def log_decision(request: IngestRequest, decision: Decision) -> None:
    """Log what was decided, with the visible prefix of the key and never more of it."""
    facts: dict[str, Any] = {
        "event": request.event.value,
        "connection": request.owner,
        "stream": decision.stream_id,
        "key": None if request.key is None else visible_prefix(request.key),
    }
    shown = " ".join(f"{name}={value}" for name, value in facts.items() if value is not None)
    verdict = "allowed" if decision.allow else "refused"
    level = _level(request, decision)
    _logger.log(level, "hook %s: %s (%s)", verdict, decision.reason, shown, extra={"hook": facts})


def _level(request: IngestRequest, decision: Decision) -> int:
    if not decision.allow:
        return logging.WARNING
    routine = request.event in {HookEvent.UPDATE, HookEvent.WATCH}
    return logging.DEBUG if routine else logging.INFO
