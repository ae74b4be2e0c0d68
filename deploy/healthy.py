# noqa: INP001  # a program of its own
"""Exits with 0 when the container's service is ready; the gateway and the sandbox are asked over HTTP."""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT = 3.0  # seconds
PAGES = {"gateway": ("GATEWAY_HTTP_PORT", 8000, "/readyz"), "sandbox": ("SANDBOX_PORT", 8090, "/healthz")}


def _over_http(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("GET", path)
    return connection.getresponse().status == 200


def _over_grpc(port: int) -> bool:
    # The sandbox's image has no gRPC.
    import grpc  # noqa: PLC0415
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> None:
    """Asks the service beside it."""
    service = os.environ["SERVICE"]
    if service in PAGES:
        variable, port, path = PAGES[service]
        ready = _over_http(int(os.environ.get(variable, port)), path)
    else:
        ready = _over_grpc(int(os.environ[f"{service.upper()}_RPC_PORT"]))
    sys.exit(0 if ready else 1)


if __name__ == "__main__":
    main()
