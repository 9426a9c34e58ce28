"""Reading pages as a browser would, and records and histories that have something of everything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from enginegate.core.records import AnswersEntry, QualityEntry, RunRecord, TextEntry
from enginegate.storage.history.entries import Entry, Point, Series, Snapshot

from tests_harness.storage.factory import MODEL, quality_entry, run_record, verdict_entry

#: A session with races of launches, quality and memory, measured on a 2-core machine and kept in this repository.
RACED = Path(__file__).parents[2] / "docs" / "results" / "live" / "records" / "20261126-215631-2b2d"
#: What would be markup, a script or an end of one, wherever it was taken for that.
HOSTILE = "</script><img src=x onerror=alert(1)><b>"
STATUSES = ("FAIL", "INCONCLUSIVE", "NO_BASELINE", "PASS")


class Read(HTMLParser):
    """A page: its elements with their attributes, its visible text, and what its scripts and data say."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)
        elif self._inside != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such element."""
        return [attributes for name, attributes in self.tags if name == tag]

    def data(self, key: str) -> object:
        """What one of its JSON scripts holds."""
        (text,) = [text for attributes, text in self.scripts if attributes.get("id") == key]
        return json.loads(text)

    @property
    def policy(self) -> str:
        """Its content policy."""
        (found,) = [each for each in self.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
        return found["content"] or ""

    def check_closed(self) -> None:
        """It asks nothing of a network, and only its own scripts run."""
        links = [value for _, attributes in self.tags for name, value in attributes.items() if name in ("src", "href")]
        assert all(value is not None and value.startswith("#") for value in links), links
        assert self.policy.startswith("default-src 'none'")
        run = [text for attributes, text in self.scripts if attributes.get("type") != "application/json"]
        hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in run}
        assert hashes == set(re.findall(r"'sha256-[^']+'", self.policy))
        assert "unsafe-eval" not in self.policy
        assert not any(name.startswith("on") for _, attributes in self.tags for name in attributes)


def _text(words: str) -> TextEntry:
    pieces = words.replace(" ", "\0 ").split("\0")
    ends = [sum(map(len, pieces[: number + 1])) for number in range(len(pieces))]
    return TextEntry(text=words, tokens=[sum(map(ord, piece)) for piece in pieces], ends=ends)


def _answers(engine: str, words: str) -> QualityEntry:
    answers = AnswersEntry(
        prompts={"sky": f"Tell me of the sky. {HOSTILE}", "sea": "Tell me of the sea."},
        references={"sky": _text("The sky is blue today"), "sea": _text("The sea is wide")},
        answers={"sky": _text(words), "sea": _text("The sea is wide")},
    )
    return quality_entry(engine, "similarity").model_copy(update={"texts": answers})


def full_record() -> RunRecord:
    """Every status, quality, memory, texts, and names that would be markup."""
    engines = [f"{MODEL}-openvino-{precision}" for precision in ("bf16", "int8_wo", "int4_awq")]
    record = run_record("full")
    quality = [entry for entry in record.quality if entry.metric != "similarity"]
    quality += [_answers(engines[1], "The sky is blue"), _answers(engines[2], f"sky {HOSTILE} sky")]
    verdicts = [
        verdict_entry(engines[number % 3], status=status, explanation=f"{status} of {HOSTILE}", warnings=[HOSTILE])
        for number, status in enumerate(STATUSES)
    ]
    return record.model_copy(update={"quality": quality, "verdicts": verdicts, "commit": HOSTILE})


def snapshot_of(entries: list[Entry]) -> Snapshot:
    """The snapshot that a history with these runs gives, without its database."""
    keys = {figure.key.digest: figure.key for entry in entries for figure in entry.figures}
    points: dict[str, list[Point]] = {digest: [] for digest in keys}
    roles = {}
    for entry in entries:
        engines = {engine.engine: engine for engine in entry.engines}
        for figure in entry.figures:
            engine = engines[figure.key.engine]
            roles[figure.key.digest] = engine.role
            values = (figure.value, figure.low, figure.high, figure.verdict)
            points[figure.key.digest].append(Point(entry.run.id, *values, engine.engine_key, engine.version))
    series = {digest: Series(key, tuple(points[digest]), roles[digest]) for digest, key in keys.items()}
    return Snapshot({entry.run.id: entry.run for entry in entries}, series, ())
