"""``enginegate doctor``: what is installed, what works on this machine, and why the rest does not."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from enginegate.cli.common import Subparsers, add_json, columns, command, print_json, say, show_bytes

#: Distributions worth naming besides those of the fingerprint.
PACKAGES = ("enginegate", "pytest", "pytest-benchmark", "pytest-xdist", "openvino-tokenizers", "nvidia-ml-py")


def add_parser(subparsers: Subparsers) -> None:
    """Declare the subcommand."""
    parser = command(
        subparsers,
        "doctor",
        "say what is installed, which backends and precisions work here, and why the others do not",
        "enginegate doctor",
    )
    add_json(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 where no backend works."""
    findings = examine()
    if arguments.json:
        print_json(findings)
    else:
        _print(findings)
    return 0 if any(backend["works"] for backend in findings["backends"].values()) else 1


def examine() -> dict[str, Any]:
    """Everything that doctor knows, JSON-able. Loads no heavy library."""
    from enginegate.engines.registry import known_backends
    from enginegate.machine.fingerprint import fingerprint

    machine = fingerprint()
    return {
        "machine": {"fingerprint": machine.key, **machine.identity},
        "python": machine.context["python"],
        "packages": _versions(PACKAGES) | machine.context["libraries"],
        "cache": _cache(),
        "backends": {name: _backend(name) for name in known_backends()},
    }


def _versions(names: tuple[str, ...]) -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _cache() -> dict[str, Any]:
    import os
    import shutil

    from enginegate.core.cache import cache_folder

    folder = cache_folder()
    existing = next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))
    return {
        "path": str(folder),
        "exists": folder.is_dir(),
        "writable": os.access(existing, os.W_OK),
        "free_bytes": shutil.disk_usage(existing).free,
    }


def _backend(name: str) -> dict[str, Any]:
    from enginegate.engines.registry import capabilities, load_backend, version

    try:
        backend = load_backend(name)
        able, versions = capabilities(backend), version(backend)
    except Exception as error:  # whatever a backend of others raises is a finding, not the end of the examination
        return {
            "works": False,
            "reason": f"{type(error).__name__}: {error}",
            "version": "",
            "device": "",
            "precisions": {},
            "kv_precisions": {},
        }
    precisions, kv_precisions = (
        {key: {"supported": entry.supported, "reason": entry.reason} for key, entry in known.items()}
        for known in (able.precisions, able.kv_precisions)
    )
    return {
        "works": any(entry["supported"] for entry in precisions.values()),
        "reason": "",
        "version": versions,
        "device": able.device,
        "precisions": precisions,
        "kv_precisions": kv_precisions,
    }


def _print(findings: dict[str, Any]) -> None:
    say("machine")
    for name, value in findings["machine"].items():
        shown = ", ".join(str(part) for part in value) or "none" if isinstance(value, list) else value
        _say_wrapped(f"  {name}: {shown}")
    cache = findings["cache"]
    state = "writable" if cache["writable"] else "NOT WRITABLE: set $ENGINEGATE_CACHE to a folder that is"
    say("cache")
    _say_wrapped(f"  {cache['path']}: {state}, {show_bytes(cache['free_bytes'])} free")
    say(f"packages (Python {findings['python']})")
    for line in columns([[f"  {name}", value or "not installed"] for name, value in findings["packages"].items()]):
        say(line)
    for name, backend in findings["backends"].items():
        _print_backend(name, backend)


def _print_backend(name: str, backend: dict[str, Any]) -> None:
    """One backend; a reason that several of its precisions share is said once.

    Where no precision works, the reason that most share is why the backend does not, and is said without their names.
    """
    say(f"backend {name}: {'works' if backend['works'] else 'does not work here'}")
    if backend["reason"]:
        _say_wrapped(f"  {backend['reason']}")
        return
    _say_wrapped(f"  {backend['version']}, on {backend['device']}")
    sharing: dict[tuple[str, bool], list[str]] = {}
    for kind, prefix in (("precisions", ""), ("kv_precisions", "KV ")):
        for precision, entry in backend[kind].items():
            if entry["reason"]:
                sharing.setdefault((entry["reason"], entry["supported"]), []).append(f"{prefix}{precision}")
    if backend["works"]:
        for kind, title in (("precisions", "precisions"), ("kv_precisions", "KV precisions")):
            working = [precision for precision, entry in backend[kind].items() if entry["supported"]]
            _say_wrapped(f"  {title}: {', '.join(working) or 'none'}")
    elif refusing := [each for each in sharing if not each[1]]:
        most = max(refusing, key=lambda each: len(sharing[each]))
        _say_wrapped(f"  {most[0]}")
        del sharing[most]
    for (reason, supported), precisions in sharing.items():
        _say_wrapped(f"    {'' if supported else 'not '}{', '.join(precisions)}: {reason}")


def _say_wrapped(text: str) -> None:
    """Print a line in 80 columns; what follows its first line is indented by two more. No word is broken."""
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    say(textwrap.fill(text, 80, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False))
