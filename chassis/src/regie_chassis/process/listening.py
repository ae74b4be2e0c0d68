"""Opens the sockets on which a service listens; a port or address that cannot be used is a wrong setting."""

from __future__ import annotations

import errno
import socket

from regie_chassis.process.settings import WrongSetting

FORBIDDEN = {errno.EACCES, errno.EPERM}


def open_listener(host: str, port: int, *, prefix: str) -> socket.socket:
    """Returns a socket that is bound there. Raises WrongSetting for `<prefix>_PORT` or `<prefix>_HOST`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    # Connections of a process that has just ended do not hold the port.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, UnicodeError) as error:
        listener.close()
        raise _refusal(error, port, prefix) from error
    return listener


def check_listening(host: str, port: int, *, prefix: str) -> None:
    """Raises WrongSetting where `open_listener` does; for a library that opens its sockets itself."""
    bare = host.removeprefix("[").removesuffix("]")
    # A library takes all addresses of IPv4 where a machine has no IPv6.
    open_listener("0.0.0.0" if bare == "::" else bare, port, prefix=prefix).close()  # noqa: S104


def _refusal(error: OSError | UnicodeError, port: int, prefix: str) -> WrongSetting:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return WrongSetting(
            f"{prefix}_PORT: port {port} is taken by another program; give another, or 0 for a free one"
        )
    if number in FORBIDDEN:
        return WrongSetting(f"{prefix}_PORT: this user may not listen on port {port}; give one above 1023")
    return WrongSetting(f"{prefix}_HOST: this is no address of this machine; give one, as in 127.0.0.1 or 0.0.0.0")
