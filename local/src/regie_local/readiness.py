"""Whether a process on this machine is ready, asked the way a supervisor asks."""

from __future__ import annotations

import http.client

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ASK_TIMEOUT = 2.0  # seconds


def rpc_serves(port: int) -> bool:
    """True when the gRPC server on the loopback's port reports SERVING."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=ASK_TIMEOUT)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def http_answers(port: int, path: str) -> bool:
    """True when GET of the path on the loopback's port answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
