"""Write a configuration that differs from another in some keys: variant.py CONFIG OUT SECTION.KEY=VALUE..."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml


def main(config: Path, out: Path, *changes: str) -> None:
    """Values are YAML; paths in CONFIG are relative to it, so OUT belongs beside a link to fixtures/."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for change in changes:
        name, equals, value = change.partition("=")
        *sections, key = name.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict):
            raise SystemExit(f"{change!r} is no SECTION.KEY=VALUE of {config}")
        place[key] = yaml.safe_load(value)
    out.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
