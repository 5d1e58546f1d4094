"""libpq connection URIs: written and taken apart without a driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

__all__ = ["Address", "is_shown_in", "parse", "render"]

_SCHEMES = ("postgresql", "postgres")


@dataclass(frozen=True, slots=True)
class Address:
    """What a URI says; None where it is silent."""

    host: str | None
    port: str | None
    dbname: str | None
    user: str | None
    password: str | None = field(repr=False)
    options: Mapping[str, str] = field(repr=False)


def parse(uri: str) -> Address:
    """Take a URI apart; raises ``ValueError`` with a sentence that repeats nothing of it.

    >>> address = parse("postgresql://ada:s%2Fp@[::1]:5433/app?sslmode=require")
    >>> address.host, address.port, address.dbname, address.user, address.options
    ('::1', '5433', 'app', 'ada', {'sslmode': 'require'})
    """
    try:
        parts = urlsplit(uri)
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), errors="strict")
        )
        login, _, place = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        host, port = _split_place(place)
        decoded = [_decode(each) for each in (host, parts.path.removeprefix("/"), user, password)]
    except ValueError:
        # The cause quotes the URI, and with it the password.
        raise ValueError("is not a connection URI") from None
    if parts.scheme not in _SCHEMES or parts.fragment:
        raise ValueError("is not a connection URI (postgresql://…)")
    return Address(
        host=decoded[0] or options.pop("host", None),
        port=port or options.pop("port", None),
        dbname=decoded[1] or options.pop("dbname", None),
        user=decoded[2] or options.pop("user", None),
        password=decoded[3] or options.pop("password", None),
        options=options,
    )


def render(
    *, host: str, port: int, dbname: str, user: str, password: str, options: Mapping[str, str] | None = None
) -> str:
    """Write a URI: every part percent-encoded, an IPv6 address in brackets, a socket's folder as a parameter.

    >>> render(host="db", port=5432, dbname="app", user="ada", password="p@ss", options={"sslmode": "require"})
    'postgresql://ada:p%40ss@db:5432/app?sslmode=require'
    """
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    query = dict(options or {})
    if host.startswith("/"):
        place, query = "", {"host": host, "port": str(port), **query}
    else:
        place = f"[{host}]:{port}" if ":" in host else f"{quote(host, safe='')}:{port}"
    tail = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return f"postgresql://{login}@{place}/{quote(dbname, safe='')}{tail}"


def is_shown_in(value: object) -> bool:
    """Tell whether a text or path is a connection URI, which nothing may print: it may hold a password.

    >>> is_shown_in("postgresql://ada:s3cret@db/app"), is_shown_in("/run/secrets/acme")
    (True, False)
    """
    # A path has one slash where the URI has two.
    return str(value).lower().startswith(tuple(f"{scheme}:/" for scheme in _SCHEMES))


def _split_place(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("a bracket is open")
        return host, rest.removeprefix(":")
    host, _, port = place.partition(":")
    return host, port


def _decode(text: str) -> str:
    return unquote(text, errors="strict")
