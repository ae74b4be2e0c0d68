"""Renders the tables of docs/networks.md from the networks' descriptors; run by `make protos`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from regie_networks.content import ContentRules, Limit, MediaRule, Source
from regie_networks.network import Network, ServerAddress
from regie_networks.registry import NETWORKS

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "networks.md"
BLOCK = re.compile(r"(<!-- BEGIN NETWORKS[^\n]*-->\n).*(<!-- END NETWORKS -->)", re.DOTALL)
HEADS = (
    "",
    "`server_url`",
    "credentials",
    "text of a part",
    "attachments of a part",
    "visibility",
    "formats",
    "numbers",
    "account",
)


def tables() -> str:
    """Returns the tables: the content, the metrics and the operations of each network."""
    networks = sorted(NETWORKS.values(), key=lambda network: network.name)
    facts = _table(HEADS, (_facts(network) for network in networks))
    verbs = _table(("", "once by", "verbs"), (_verbs(network) for network in networks))
    return f"\n{facts}\n{verbs}\n"


def render(text: str) -> str:
    """Returns the page with its tables rendered anew."""
    return BLOCK.sub(lambda found: found[1] + tables() + found[2], text)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def _facts(network: Network) -> list[str]:
    rules = network.rules
    return [
        f"[`{network.name}`](#{network.name})",
        _server(network),
        ", ".join(f"`{field.name}`" + ("" if field.is_required else "?") for field in network.credentials),
        " and ".join(_limit(limit) for limit in rules.text) + (_PER_SERVER if rules.is_per_server else ""),
        _attachments(rules),
        ", ".join(rules.visibilities),
        ", ".join(rules.formats),
        ", ".join(network.metrics),
        ", ".join(network.account_metrics),
    ]


_PER_SERVER = ", where the server states nothing else"


def _verbs(network: Network) -> list[str]:
    return [f"`{network.name}`", f"`{network.once}`", ", ".join(f"`{verb}`" for verb in network.verbs)]


def _server(network: Network) -> str:
    if network.server_address is ServerAddress.REQUIRED:
        return "needed"
    return f"empty: `{network.main_server}`"


def _attachments(rules: ContentRules) -> str:
    kinds = "; ".join(_media(rule) for rule in rules.media)
    alt_text = f"; alternative text {_limit(rules.alt_text)}" if rules.alt_text else ""
    return f"{rules.max_attachments} of: {kinds}{alt_text}"


def _media(rule: MediaRule) -> str:
    sizes = [f"{rule.max_bytes:,} bytes"] if rule.max_bytes else []
    sizes += [f"{rule.max_pixels:,} pixels"] if rule.max_pixels else []
    if not sizes:
        return rule.kind
    text = f"{rule.kind} up to {_link(' and '.join(sizes), rule.source)}"
    return f"{text}, larger ones are made smaller" if rule.is_fitted else text


def _limit(limit: Limit) -> str:
    unit = "characters, weighted" if limit.unit == "weighted" else limit.unit
    return _link(f"{limit.maximum:,} {unit}", limit.source)


def _link(text: str, source: Source) -> str:
    url = source.url if source.url.startswith("https://") else f"../{source.url}"
    return f'[{text}]({url} "read on {source.read_date}")'


if __name__ == "__main__":
    FILE.write_text(render(FILE.read_text()))
