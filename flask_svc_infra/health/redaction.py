"""Take the secrets out of text before anybody sees it.

Drivers put whole connection strings into their errors. What a check says goes to HTTP bodies, logs, events
and metrics, so everything passes through here once, where a run is judged. When in doubt it takes out too
much: a message that lost a host name costs a minute, one that kept a password costs a rotation.

Three nets, each for what the others miss: secrets known by name (a factory knows its own URL's), the shapes
in which connection strings and headers write them, and the shapes of well-known tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

__all__ = ["MASK", "clean", "describe", "redact", "secrets_of"]

MASK = "***"
LONGEST_MESSAGE = 500
"""Characters a message may have: a paragraph is read, a dump is not."""

_LONGEST_INPUT = 16_384
"""Characters looked at; the rest of a huge message is dropped before the patterns run."""

_SHORTEST_SECRET = 4
"""Shorter known secrets are left to the patterns: masking every 'a' would leave no message."""

_SENSITIVE = (
    r"(?:password|passwd|passphrase|passcode|pwd|secret|token|credential|authorization|cookie|session[_-]?id"
    r"|signature|(?:api|access|private|account|shared|auth|client|encryption|license|master|service|signing|storage)"
    r"[ _-]?key"
    # These are parts of honest words too (compass, signal, author), so they have to stand alone.
    r"|(?<![a-z])(?:pass|sig|auth|bearer|jwt|dsn|salt|otp|pin)(?![a-z]))"
)
_QUOTED = r"""[bBrRuUfF]{0,2}(?:"(?:\\.|[^"\\])*(?:"|$)|'(?:\\.|''|[^'\\])*(?:'|$))"""

_PEM = re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(?:-----END [^-]*PRIVATE KEY-----|$)", re.DOTALL)
_HEADER = re.compile(
    r"""(?ix) (\b(?:proxy-)?authorization|\b(?:set-)?cookie|\bx-[\w-]*(?:key|token|auth\w*)) (["']?\s*[:=]\s*)
    (?: ["'] [^"'\r\n]* ["']? | [^\r\n]* )"""
)
_KEY = rf"""{_SENSITIVE}[\w.-]{{0,40}} (?:\\?["']|%2[27])? \]? \s*(?:=>|->|→|:=|==?|:|%3[AaDd])"""
_KEYED_QUOTED = re.compile(rf"(?ix) ({_KEY}\s*) \\?{_QUOTED}[^\s,;)}}\]]*")
_KEYED = re.compile(rf"(?ix) ({_KEY}\s*) \S+")
_KEYED_WORD = re.compile(rf"(?ix) {_KEY}")
_OPTION = re.compile(rf"""(?i)((?<![\w-])--?[\w-]{{0,40}}?{_SENSITIVE}(?:["'],)?\s+)(?:{_QUOTED}\S*|\S+)""")
# A key without a word before it may be a row's or a cache's; with a bare `=` it is seldom harmless.
_BARE_KEY = re.compile(rf"""(?i)((?<![\w-])key=|[?&]code=)(?:{_QUOTED}|[^\s&,;)}}\]"']+)""")
_NAMED_VALUE = re.compile(
    rf"""(?i)({_SENSITIVE}[\w.-]{{0,40}}["'],?\s{{0,20}}["']?value["']?\s*[:=]\s*){_QUOTED}"""
)
_ELEMENT = re.compile(
    rf"(?is)(<(?:[\w-]{{1,40}}:)?[\w.-]{{0,40}}?{_SENSITIVE}[\w.-]{{0,40}}(?:\s[^<>]{{0,200}})?>).{{1,1000}}?(?=</)"
)
# Commands whose options for a password do not say so; as a shell writes them, or Python a list of arguments.
_COMMAND = re.compile(
    r"(\b(?:mysql|mariadb|sshpass)[^\r\n]{0,300}?(?<![\w-])-p|\b(?:redis|valkey)-cli[^\r\n]{0,300}?(?<![\w-])-a"
    rf"""|(?<![\w-])(?:-u|--user)(?:["'],\s*["']?|[\s=]+["']?)[^\s:"']{{1,100}}:)((?:["'],)?\s*)(?:{_QUOTED}|[^\s"',-][^\s"',]*)"""
)
# Sentences that quote a password. What is said of one (it is missing, it has expired) is no secret.
_NOUN = r"\b(?:password|passwd|passphrase|passcode|pwd|secret|token|credential|(?:api|access)[ _-]?key)s?"
_SAID_OF_ONE = (
    r"(?:not?|missing|invalid|incorrect|wrong|empty|too|weak|(?:un)?set|null|none|blank|mandatory|optional|correct|valid"
    r"|unknown|absent|being|only|never|already|still|now|in|at|on|of|for|to|by|from|about|and|or|but|because|with|as|when"
    r"|malformed|unavailable|undefined|right|an?|the|longer|shorter|[a-z]+ed)\b"
)
_SENTENCE = re.compile(
    rf"""(?ix) ({_NOUN} (?:\s+(?:for|of)\s+\S+(?:\s+\S+)?)? \s+ (?:is|was|provided|given|used|supplied)\b
    \s*:?\s* (?:(?:is|was)\s+)?) (?!{_SAID_OF_ONE}) (?:{_QUOTED}|\S+)"""
)
_BESIDE = re.compile(
    rf"""(?ix) ((?:{_NOUN} | \b(?-i:AUTH)) \s+) (?:{_QUOTED} | `[^`]*`?
    | (?=\S*\d) (?=\S*[a-z]) [^\s'"`]{{6,}})"""
)
_SPOKEN = re.compile(r"(?i)(\bidentified\s+by\s+|\bargs\s+beginning\s+with:\s*)[^\r\n]+")
_SCHEME = re.compile(r"(?i)\b(bearer|basic|digest|negotiate|apikey|token(?=\s+\S*\d))(\s+)([\w.~+/=-]{6,})")
_TOKENS = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]*\.?[\w-]*"  # JSON web token
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{12,}"  # AWS
    r"|\bgh[oprsu]_\w{10,}|\bgithub_pat_\w{10,}|\bglpat-[\w-]{10,}"
    r"|\bxox[a-z]-[\w-]{6,}|\b(?:sk|rk|pk|whsec)[_-](?:live|test|proj)?[_-]?\w{10,}"
    r"|\bAIza[\w-]{20,}|\bya29\.[\w-]+|\bnpm_\w{20,}|\bpypi-[\w-]{20,}|\bhvs\.[\w-]{20,}"
)
# After `scheme://name:` comes a password unless it is a port. One that holds blanks ends at a later `@`.
_SPACED_USERINFO = re.compile(
    r"(://[^\s/@:\[]*:(?!\d{1,5}(?![^\s/,;)\]}'\"?#]))[^\s@]*\s)([^@]*@\S*@|[^@]*@)"
)
_WORD = re.compile(r"\S+")
# How our own errors say a URL is written. No port is called "port", so it is nobody's URL.
_FORM = re.compile(r"\w+://\[?user:password@\]?host\[?:port\]?(?:\[?/(?:database|/)?\]?)?[.,;]?")


def redact(text: str, *, secrets: Iterable[str] = ()) -> str:
    """Return *text* without secrets, at most 500 characters long.

    Args:
        text: anything a driver or a check said.
        secrets: secrets known by name; they are masked in whatever form they appear (plain, percent-encoded,
            as Python or JSON writes them). Ones under four characters are left to the patterns.
    """
    text = _cut(text)
    for form in _forms(secrets):
        text = text.replace(form, MASK)
    text = _PEM.sub(MASK, text)
    text = _HEADER.sub(rf"\1\2{MASK}", text)
    text = _KEYED_QUOTED.sub(rf"\1{MASK}", text)
    text = _SPACED_USERINFO.sub(rf"://{MASK}@", text)
    text = _WORD.sub(_without_userinfo, text)
    text = _KEYED.sub(rf"\1{MASK}", text)
    for pattern in (_OPTION, _NAMED_VALUE, _BARE_KEY, _ELEMENT, _SENTENCE, _BESIDE, _SPOKEN):
        text = pattern.sub(rf"\1{MASK}", text)
    text = _COMMAND.sub(rf"\1\2{MASK}", text)
    text = _SCHEME.sub(rf"\1\2{MASK}", text)
    text = _TOKENS.sub(MASK, text)
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def describe(exc: BaseException, *, secrets: Iterable[str] = ()) -> str:
    """Return what *exc* and its causes say, redacted: its text, then that of each cause that adds to it."""
    texts: list[str] = []
    _gather(exc, texts, depth=0)
    return redact("; caused by ".join(texts), secrets=secrets)


def clean(value: Any, *, secrets: Iterable[str] = (), depth: int = 4) -> Any:
    """Return *value* as JSON can carry it, without secrets: what stands under a telling key is masked.

    Mappings and sequences are followed four deep, fifty items wide; anything else becomes its redacted text.
    """
    secrets = tuple(secrets)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # NaN and infinities are not JSON
    if isinstance(value, str):
        return redact(value, secrets=secrets)
    if depth > 0 and isinstance(value, Mapping):
        return {
            redact(_text(key), secrets=secrets): (
                MASK
                if re.search(_SENSITIVE, _text(key), re.IGNORECASE)
                else clean(each, secrets=secrets, depth=depth - 1)
            )
            for key, each in list(value.items())[:_WIDEST]
        }
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [clean(each, secrets=secrets, depth=depth - 1) for each in list(value)[:_WIDEST]]
    return redact(_text(value), secrets=secrets)


def secrets_of(url: str) -> tuple[str, ...]:
    """Return what is secret in a connection string: its userinfo's password and its telling parameters.

    A user name without a password is taken for a secret in ``http`` and ``https`` (``https://TOKEN@host``).
    """
    found: list[str] = []
    try:
        parts = urlsplit(url)
        userinfo = parts.netloc.rpartition("@")[0]
        user, colon, password = userinfo.partition(":")
        if colon or parts.scheme.startswith("http"):
            found.append(password if colon else user)
        found += [
            value
            for key, value in parse_qsl(parts.query)
            if re.search(_SENSITIVE + "|key|code", key, re.IGNORECASE)
        ]
    except ValueError:
        pass  # not a URL: the patterns have to do
    return tuple(secret for secret in found if secret)


_WIDEST = 50
_DEEPEST_CAUSE = 4


def _cut(text: str) -> str:
    """Drop what is past the longest input, and the word the cut went through: it may be half a secret."""
    if len(text) <= _LONGEST_INPUT:
        return text
    head = text[:_LONGEST_INPUT]
    start = max(head.rfind(" "), head.rfind("\n"), head.rfind("\t")) + 1
    last = head[start:]
    harmless = last.isalnum()
    return (head if harmless else head[:start] + last[: _before_sign(last)]) + "…"


def _before_sign(word: str) -> int:
    sign = re.search(r"\W", word)
    return sign.start() if sign else 0


def _forms(secrets: Iterable[str]) -> list[str]:
    forms: set[str] = set()
    for secret in secrets:
        for plain in {secret, unquote(secret), unquote_plus(secret)}:
            written = (plain, quote(plain, safe=""), quote(plain), quote_plus(plain), repr(plain)[1:-1])
            forms.update((*written, plain.replace("\\", "\\\\").replace('"', '\\"')))
    return sorted((form for form in forms if len(form) >= _SHORTEST_SECRET), key=len, reverse=True)


def _without_userinfo(match: re.Match[str]) -> str:
    word = match[0]
    at = word.rfind("@")
    if at < 0 or _FORM.fullmatch(word):
        return word
    scheme = word.find("://")
    start = scheme + 3 if 0 <= scheme < at else 0
    if start == 0 and ":" not in word[:at]:
        return word  # an address, as in ops@example.org
    if _KEYED_WORD.search(word):  # a key within a password, or an @ within a key's value: nobody can tell
        return word[: start or _before_sign(word) + 1] + MASK
    return word[:start] + MASK + word[at:]


def _gather(exc: BaseException, texts: list[str], *, depth: int) -> None:
    text = _text(exc).strip() or type(exc).__name__
    if not any(text in known for known in texts):
        texts.append(text)
    if depth >= _DEEPEST_CAUSE:
        return
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions[:_DEEPEST_CAUSE]:
            _gather(each, texts, depth=depth + 1)
    if exc.__cause__ is not None:
        _gather(exc.__cause__, texts, depth=depth + 1)


def _text(value: object) -> str:
    """Return ``str(value)``, or its type's name when even that raises."""
    try:
        return str(value)
    except Exception:
        return type(value).__name__
