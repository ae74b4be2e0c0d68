"""A request with an Idempotency-Key is handled once; a later one with the same key gets the stored response."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from joserfc.jwk import OKPKey
from regie_chassis.boundary.errors import RegieError
from regie_chassis.boundary.ids import new_id
from regie_chassis.process.loops import tolerate_outage

from regie_gateway.access import idempotency
from regie_gateway.access.idempotency import Answer, Claim
from regie_gateway.http.context import GatewayContext, RequestContext
from regie_gateway.http.responses import stored_body

STORED_HEADERS = ("content-type", "location", "etag")

log = structlog.get_logger()


def fingerprint_key(identity_key: OKPKey) -> bytes:
    """Returns the secret that keys fingerprints: every replica has it, and nobody else."""
    private = str(identity_key.as_dict(private=True)["d"])
    return hashlib.sha256(b"idempotency fingerprints" + private.encode()).digest()


async def handle_once(
    context: RequestContext,
    request: Request,
    *,
    key: str,
    content: bytes,
    handler: Callable[[Request], Awaitable[Response]],
    on_error: Callable[[RegieError], Response],
) -> Response:
    """Returns the response that the key stores, or handles the request and stores its response.

    `content` tells the request's body from another. Raises the errors of `idempotency.claim`.
    """
    gateway, workspace_id = context.gateway, context.workspace_id
    mark = _fingerprint(context, request, content)
    async with gateway.database.transaction() as session:
        claimed = await idempotency.claim(
            session, workspace_id=workspace_id, key=key, mark=mark, token=new_id(), now=gateway.clock.now()
        )
    if isinstance(claimed, Answer):
        return Response(claimed.body, claimed.status, {**claimed.headers, "Idempotent-Replayed": "true"})
    context.request_id = str(idempotency.request_id(workspace_id, key, mark))
    try:
        response = await handler(request)
    except RequestValidationError:
        await _settle(gateway, claimed, None)
        raise
    except RegieError as error:
        response = on_error(error)
    except BaseException:
        await _settle(gateway, claimed, Answer(500, {}, b""))
        raise
    headers = {name: response.headers[name] for name in STORED_HEADERS if name in response.headers}
    await _settle(gateway, claimed, Answer(response.status_code, headers, stored_body(response)))
    return response


def _fingerprint(context: RequestContext, request: Request, content: bytes) -> bytes:
    return idempotency.fingerprint(
        context.gateway.fingerprint_key,
        request.method.encode(),
        request.scope["path"].encode(),
        str(context.revision).encode(),
        content,
    )


async def _settle(gateway: GatewayContext, claimed: Claim, answer: Answer | None) -> None:
    # Without it the response stands all the same: the lease runs out, and the request id makes another try harmless.
    with tolerate_outage("idempotency.not_settled"):
        async with gateway.database.transaction() as session:
            if answer is None:
                await idempotency.forget(session, claimed)
            elif answer.status >= 500 or answer.status == 429:
                await idempotency.release(session, claimed)
            else:
                await idempotency.keep_answer(session, claimed, answer)
