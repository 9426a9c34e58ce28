"""The one exception family, and the one way by which a library's exception becomes a member of it.

Every error names the thing, the reason and the hint. Wherever the suite calls what others wrote (an engine, an
exporter, a database, a lock, a template), it does so inside ``edge``.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

#: Errors of a disk, or of a file system, that takes no more; anything that writes can meet them, stdout as well.
DISK_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
#: Of what a library says, no more than so many characters: some print a whole model.
_LONGEST = 2000


class EngineGateError(Exception):
    """Base of all errors that enginegate raises on purpose.

    Args:
        problem: what is wrong with which thing, and why, in one sentence.
        hint: what the reader can do about it (a command, a key, a file), or empty.
    """

    def __init__(self, problem: str, hint: str = "") -> None:
        problem, hint = _writable(problem), _writable(hint)
        super().__init__(f"{problem}\n  hint: {hint}" if hint else problem)
        self.problem = problem
        self.hint = hint


class ConfigError(EngineGateError):
    """A configuration, option or data file that cannot be used as written."""


class ModelError(EngineGateError):
    """A model source that cannot be fetched, verified, converted or read."""


class CapabilityError(EngineGateError):
    """A backend was asked for something it cannot do here."""


class EngineError(EngineGateError):
    """An engine that failed to build, load or answer, or is not what was asked for."""


class StoreError(EngineGateError):
    """The engine store cannot be read or written."""


class MeasurementError(EngineGateError):
    """Samples that cannot be trusted, or could not be taken."""


class BaselineError(EngineGateError):
    """A baseline that is missing, foreign, stale or damaged."""


class RecordError(EngineGateError):
    """A run record that cannot be read or written."""


@contextmanager
def edge(kind: type[EngineGateError], problem: str, hint: str = "") -> Iterator[None]:
    """Around a call of what others wrote: whatever it raises becomes ``kind``, and is kept as its cause.

    Errors of this family pass as they are, and so does what is no failure: an interruption, ``sys.exit``, an outcome of
    pytest (skip, fail, exit) and the debugger's end.

    Args:
        kind: what is raised.
        problem: what could not be done with which thing; what the library said follows after a colon.
        hint: what to do; a better one takes its place where the reason is a usual one (see ``_USUAL``), or stands
            before it where the reason is a place, which the caller knows best.
    """
    try:
        yield
    except BaseException as error:  # a panic of a library written in Rust is no Exception
        if is_no_failure(error):
            raise
        raise explained_by(error, kind, problem, hint) from error


def explained_by(error: BaseException, kind: type[EngineGateError], problem: str, hint: str = "") -> EngineGateError:
    """The error that says ``problem`` and what a library said about it; see ``edge``."""
    said = describe(error)
    for usual in _USUAL:
        if any(_number(each) in usual.numbers or _has(describe(each), usual.words) for each in _chain(error)):
            said = f"{usual.meaning}: {said}" if usual.meaning not in said.lower() else said
            return kind(f"{problem}: {said}", usual.advice(hint))
    return kind(f"{problem}: {said}", hint)


def describe(error: BaseException) -> str:
    """The class of an exception and what it says, as far as it can be shown."""
    try:
        text = str(error).strip()
    except Exception:  # a message that cannot be made is not worth another traceback
        text = ""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Usual(NamedTuple):
    """A reason of all libraries alike.

    Attributes:
        numbers: error numbers.
        words: in the class or text, in small letters.
        meaning: what that means, where the text does not say it.
        hint: what to do.
        elsewhere: for a reason that is a place: what else to do where the caller names no other place.
    """

    numbers: frozenset[int]
    words: tuple[str, ...]
    meaning: str
    hint: str
    elsewhere: str = ""

    def advice(self, own: str) -> str:
        """The hint, with that of the caller behind it where the reason is a place."""
        return f"{self.hint}; {own or self.elsewhere}" if self.elsewhere else self.hint


_USUAL = (
    _Usual(
        frozenset((errno.ENOMEM,)),
        ("out of memory", "outofmemoryerror", "memoryerror", "can't allocate memory", "cannot allocate", "bad_alloc"),
        "out of memory",
        "lower max_batch_size, max_input_len or kv_cache_bytes, take another precision, or free the memory that other "
        "processes hold",
    ),
    _Usual(
        frozenset((errno.ENOLCK,)),
        ("flock not supported",),
        "the file system knows no locks",
        "point $ENGINEGATE_CACHE (for a lease of a GPU: $TMPDIR) at a folder of a local disk",
    ),
    _Usual(
        DISK_FULL,
        ("no space left on device", "disk quota exceeded"),
        "",
        "make room on that disk",
        "or point $ENGINEGATE_CACHE at a larger one",
    ),
    _Usual(
        frozenset((errno.EACCES, errno.EPERM, errno.EROFS)),
        (),
        "",
        "give this user the rights to it",
        "or name another place ($ENGINEGATE_CACHE for the cache)",
    ),
    _Usual(
        frozenset((errno.EMFILE, errno.ENFILE)),
        ("too many open files",),
        "",
        "raise the limit of open files (`ulimit -n`), or close what other processes hold open",
    ),
    _Usual(
        frozenset((errno.EADDRINUSE,)),
        ("address already in use",),
        "",
        "another process has the port: end it, or wait until it has ended",
    ),
    _Usual(
        frozenset(),
        ("af_unix path too long",),
        "",
        "point $TMPDIR at a folder with a shorter path: that of a socket has 107 characters at most",
    ),
    _Usual(
        frozenset(),
        ("getpwuid(): uid not found", "could not determine home directory", "no username set in the environment"),
        "",
        "this user has no home folder or no entry in the passwd file: set $HOME, $USER and $ENGINEGATE_CACHE",
    ),
)


def is_no_failure(error: BaseException) -> bool:
    """Whether an exception is no library's failure. pytest and the debugger are known by name: neither is loaded."""
    if isinstance(error, EngineGateError | KeyboardInterrupt | SystemExit | GeneratorExit):
        return True
    return any(each.__module__ == "_pytest.outcomes" or each.__name__ == "BdbQuit" for each in type(error).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it came from, each once."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _number(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _has(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text.lower() for word in words)


def _writable(text: str) -> str:
    """A text that every file takes: of a file name that is no UTF-8, the odd bytes are spelled out."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")
