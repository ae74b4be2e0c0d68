"""Renders services.toml into the files that cannot read it; run by `make services`.

In docker-compose.yml and .env.example it writes the part between `# BEGIN <NAME>` and `# END <NAME>`. In
.importlinter and pyproject.toml it writes anew every run of two or more services: of all of them where the run names
the sandbox, and else of those that stand on the chassis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from regie_chassis.events.nats_access import STREAMS_USER
from regie_local.services import ServiceSpec, all_specs, fill, secret_settings, service_specs

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = "sandbox"

COMPOSE_SERVICE = """\
  {name}-migrate:
    build: &{name}-build
      context: .
      dockerfile: deploy/Dockerfile
      args: {{SERVICE: {name}}}
    image: regie-{name}
    command: [migrate]
    environment: &{name}-environment
      <<: *shared
      NATS_PASSWORD: {nats_password}
      {prefix}_DATABASE_URL: postgresql+asyncpg://{name}:{database_password}@postgres:5432/{name}
{settings}
    healthcheck: {{disable: true}}
    depends_on:
      postgres: {{condition: service_healthy}}

  {name}:
    <<: *policy
    build: *{name}-build
    image: regie-{name}
    environment: *{name}-environment
{more}    depends_on:
      {name}-migrate: {{condition: service_completed_successfully}}
      nats: {{condition: service_healthy}}
"""

COMPOSE_STREAMS = """\
  # Makes the event streams, which no other user of NATS may shape (docs/adr/0020).
  streams:
    <<: *policy
    image: regie-{first}
    build: *{first}-build
    entrypoint: [python, -m, regie_chassis.events.streams]
    command: [{names}]
    environment:
      NATS_URL: nats://nats:4222
      NATS_PASSWORD: {nats_password}
    healthcheck: {{disable: true}}
    depends_on:
      nats: {{condition: service_healthy}}
"""


def compose(text: str) -> str:
    """Returns docker-compose.yml with the services' passwords and processes."""
    names = list(service_specs())
    blocks = [_compose_service(spec) for spec in service_specs().values()]
    streams = COMPOSE_STREAMS.format(first=names[0], names=", ".join(names), nats_password=_asked(_user(STREAMS_USER)))
    text = _block(text, "DATABASES", [f"      {name}: {_asked(name)}" for name in map(_database, names)])
    text = _block(text, "USERS", [f"      {name}: {_asked(name)}" for name in map(_user, [*names, STREAMS_USER])])
    return _block(text, "SERVICES", "\n".join([*blocks, streams]).rstrip("\n").split("\n"))


def example(text: str) -> str:
    """Returns .env.example with a line for each password and secret."""
    names = list(service_specs())
    text = _block(text, "DATABASES", [f"{_database(name)}=" for name in names])
    text = _block(text, "USERS", [f"{_user(name)}=" for name in [*names, STREAMS_USER]])
    return _block(text, "SECRETS", [f"{name}=" for name in secret_settings()])


def import_rules(text: str) -> str:
    """Returns .importlinter with the services in each of its lists."""
    return _runs(text, r"    regie_{}\n", lambda name: f"    regie_{name}\n")


def workspace(text: str) -> str:
    """Returns pyproject.toml with the services among its requirements, its members and the paths of mypy."""
    text = _runs(text, r'  "regie-{}",\n', lambda name: f'  "regie-{name}",\n')
    text = _runs(
        text, r"regie-{} = \{{ workspace = true \}}\n", lambda name: f"regie-{name} = {{ workspace = true }}\n"
    )
    return _runs(text, r'(?:, )?"services/{}/src"', lambda name: f', "services/{name}/src"')


RENDERED: Mapping[str, Callable[[str], str]] = {
    "docker-compose.yml": compose,
    ".env.example": example,
    ".importlinter": import_rules,
    "pyproject.toml": workspace,
}


def main() -> None:
    """Writes the files anew."""
    for name, render in RENDERED.items():
        path = ROOT / name
        path.write_text(render(path.read_text()))


def _compose_service(spec: ServiceSpec) -> str:
    name, prefix = spec.name, spec.name.upper()
    values = {
        "<identity-key>": _asked("GATEWAY_IDENTITY_PRIVATE_KEY"),
        "<targets>": json.dumps(
            {one.name: f"{one.name}:{one.rpc_port}" for one in service_specs().values() if one.rpc_port}
        ),
        "<sandbox>": f"{STAND_IN}:{next(one.http_port for one in all_specs() if one.name == STAND_IN)}",
        "<media-url>": "${REGIE_MEDIA_URL:-file:///var/lib/regie/media}",
    }
    settings = fill({**spec.environment, **spec.compose}, values, secret_of=_asked)
    for kind, port in (("RPC", spec.rpc_port), ("HTTP", spec.http_port)):
        if port:
            settings |= {f"{prefix}_{kind}_HOST": "0.0.0.0", f"{prefix}_{kind}_PORT": str(port)}  # noqa: S104  # in a container
    more = ""
    if spec.http_port:
        more += f'    ports: ["127.0.0.1:${{REGIE_PORT:-{spec.http_port}}}:{spec.http_port}"]\n'
    if spec.volumes:
        more += "    volumes:\n" + "".join(f"      - {volume}:/var/lib/regie/{volume}\n" for volume in spec.volumes)
    return COMPOSE_SERVICE.format(
        name=name,
        prefix=prefix,
        nats_password=_asked(_user(name)),
        database_password=_asked(_database(name)),
        settings="\n".join(f"      {setting}: {_quoted(value)}" for setting, value in settings.items()),
        more=more,
    )


def _database(service: str) -> str:
    return f"{service.upper()}_DATABASE_PASSWORD"


def _user(user: str) -> str:
    return f"{user.upper()}_NATS_PASSWORD"


def _asked(variable: str) -> str:
    return f"${{{variable}:?run make .env}}"


def _quoted(value: str) -> str:
    return f"'{value}'" if value.startswith("{") else value


def _block(text: str, name: str, lines: Iterable[str]) -> str:
    body = "".join(f"{line}\n" for line in lines)
    pattern = re.compile(rf"( *# BEGIN {name}\b[^\n]*\n).*?( *# END {name}\b)", re.DOTALL)
    rendered, count = pattern.subn(lambda found: found[1] + body + found[2], text)
    if count != 1:
        raise SystemExit(f"one block # BEGIN {name} … # END {name} is missing, or there are several")
    return rendered


def _runs(text: str, item: str, show: Callable[[str], str]) -> str:
    """Returns the text with each run of two or more services replaced; `item` is a pattern with a place for a name."""
    every = sorted(one.name for one in all_specs())
    on_chassis = sorted(service_specs())
    run = re.compile(f"(?:{item.format('(?:' + '|'.join(every) + ')')}){{2,}}")

    def replaced(found: re.Match[str]) -> str:
        return "".join(map(show, every if STAND_IN in found[0] else on_chassis))

    return run.sub(replaced, text)


if __name__ == "__main__":
    main()
