"""Documents as passages: how a text is split, what tells one source from another, and what a search gives back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

from storagelib.documents import Json
from storagelib.errors import InvalidInput
from storagelib.limits import DOCUMENT_BYTES_MAX, VALUE_BYTES_MAX, check_batch, check_bytes, check_integer, check_text

__all__ = ["Ingested", "Passage", "check_chunks", "single", "source_hash", "split"]

_PARAGRAPH: Final = re.compile(r"\n\s*\n")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Passage:
    """One piece of a document."""

    document_id: str
    """The document."""
    position: int
    """Its place among the document's pieces, from 0."""
    content: str
    """The text."""
    metadata: Mapping[str, Json]
    """What the caller gave with the document."""
    score: float | None = None
    """How well it answers, higher is better; None where nothing was asked."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a document."""

    document_id: str
    """The document."""
    outcome: Literal["new", "replaced", "unchanged"]
    """``unchanged``: the source was ingested before, and nothing was embedded or written."""
    passages: int
    """How many pieces it has."""
    source_hash: str
    """SHA-256 of the source, 64 hexadecimal digits."""


def split(text: str, *, size: int = 1000, overlap: int = 100) -> list[str]:
    """Split a text into pieces of at most ``size`` characters: at paragraphs, else sentences, else words, else anywhere.

    ``overlap`` characters (at most half of ``size``) at the end of a piece begin the next one, from a word's start.

    >>> split("One two. Three four.", size=12, overlap=0)
    ['One two.', 'Three four.']
    """
    check_text("text", text, least=0, most=DOCUMENT_BYTES_MAX)
    check_integer("size", size, least=10, most=1_000_000)
    check_integer("overlap", overlap, least=0, most=size // 2)
    pieces: list[str] = []
    current = ""
    for part in _parts(text, size - overlap - (1 if overlap else 0)):
        joined = f"{current} {part}".strip() if current else part
        if len(joined) <= size:
            current = joined
            continue
        pieces.append(current)
        current = f"{_tail(current, overlap)} {part}".strip()
    return [*pieces, current] if current else pieces


def source_hash(chunks: Sequence[str], source: str | bytes | None) -> str:
    """Return what tells a source from another: of the source itself, or of its pieces with their lengths."""
    if isinstance(source, str):
        source = check_text("source", source, least=0, most=VALUE_BYTES_MAX).encode()
    if source is not None:
        return sha256(check_bytes("source", source)).hexdigest()
    digest = sha256()
    for chunk in chunks:
        encoded = chunk.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def _parts(text: str, size: int) -> Iterator[str]:
    """Give pieces of at most ``size`` characters, the largest natural ones that fit."""
    for paragraph in _PARAGRAPH.split(text):
        for sentence in [paragraph] if len(paragraph) <= size else _SENTENCE.split(paragraph):
            words = " ".join(sentence.split())
            while len(words) > size:
                cut = words.rfind(" ", 0, size + 1)
                cut = cut if cut > 0 else size
                yield words[:cut].strip()
                words = words[cut:].strip()
            if words:
                yield words


def _tail(text: str, overlap: int) -> str:
    if not overlap or len(text) <= overlap:
        return "" if not overlap else text
    tail = text[-overlap:]
    space = tail.find(" ")
    return tail[space + 1 :] if space >= 0 else tail


def single(embeddings: Any) -> Any:
    """Return the embedding of one text, of what was to embed that text; raises ``InvalidInput`` for more or less."""
    listed = check_batch("embed", embeddings)
    if len(listed) != 1:
        raise InvalidInput("the text cannot be embedded", [f"embed: gave {len(listed)} embeddings for one text"])
    return listed[0]


def check_chunks(chunks: Iterable[str]) -> list[str]:
    """Return pieces that all have something to say."""
    listed = [chunks] if isinstance(chunks, str) else check_batch("chunks", chunks)
    if not listed or not all(check_text("chunks", chunk, most=1_000_000).strip() for chunk in listed):
        raise InvalidInput(
            "the document cannot be ingested", ["chunks: must be texts that are not empty, at least one"]
        )
    return listed
