"""No secret leaves: not in a body, a log record, an event or a metric's label, whatever shape it comes in."""

import json
import logging
import string
import time
from urllib.parse import quote

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_svc_infra import ConfigurationError, events
from flask_svc_infra.health import (
    HealthCheckResult,
    HealthRegistry,
    HealthStatus,
    add_health_routes,
    check_broker,
    check_database,
    check_redis,
)
from flask_svc_infra.health.redaction import LONGEST_MESSAGE, clean, describe, redact, secrets_of

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Marked, so that it cannot occur by chance in a message; around the mark, what people put into passwords.
SIGNS = string.ascii_letters + string.digits + "!#$%^*-_+.~|/:@?&="
secrets = st.text(SIGNS, max_size=8).map(lambda ends: f"{ends}Zq9Xw7{ends[::-1]}")
plain_secrets = st.text(string.ascii_letters + string.digits + "-_.~+/=", max_size=10).map(
    lambda s: f"Zq9Xw7{s}"
)
MARK = "Zq9Xw7"

KEYS = [
    "password",
    "PASSWORD",
    "passwd",
    "pwd",
    "db_password",
    "PGPASSWORD",
    "secret",
    "client_secret",
    "AWS_SECRET_ACCESS_KEY",
    "token",
    "access_token",
    "api_key",
    "api-key",
    "apikey",
    "private_key",
    "Authorization",
    "credentials",
    "sig",
    "session_id",
]

SHAPES = [
    lambda s: f"could not connect to postgresql://shop:{s}@db.internal:5432/shop",
    lambda s: f'invalid dsn: "postgres://shop:{quote(s, safe="")}@db/shop" (bad)',
    lambda s: f"Error connecting to redis://:{s}@cache:6379/0.",
    lambda s: f"amqp://guest:{s}@rabbit//: refused, http://u:{s}@h/p too",
    lambda s: f"shop:{s}@db.internal:5432 refused the connection",
    lambda s: f"connection failed: host=db user=shop password={s} dbname=shop",
    lambda s: f"connection failed: host=db password='{s}' dbname=shop",
    lambda s: f"{{'host': 'db', 'password': '{s}', 'port': 5432}}",
    lambda s: json.dumps({"user": "shop", "api_key": s}),
    lambda s: f"Connection(host='db', passwd=b'{s}')",
    lambda s: f"GET https://api/v1?user=7&access_token={s}&x=1 failed",
    lambda s: f"mysqldump --password {s} shop: exit status 2",
    lambda s: f"mysqldump --password={s} shop: exit status 2",
    lambda s: f"headers: Authorization: Bearer {s}",
    lambda s: f"env SECRET_TOKEN: {s}",
]
SENTENCES = [
    lambda s: f"the password is {s}",
    lambda s: f"the password is '{s}'",
    lambda s: f"Password for user shop was {s}",
    lambda s: f"Incorrect API key provided: {s}.",
    lambda s: f"password '{s}' was rejected",
    lambda s: f'redis: AUTH "{s}" failed',
    lambda s: f"ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'shop' '{s}'",
    lambda s: f"CREATE USER shop IDENTIFIED BY '{s}'",
    lambda s: f"ALTER USER shop WITH PASSWORD '{s}'",
    lambda s: f"mysql -u root -p{s} shop: exit status 1",
    lambda s: f"Command {['mysqldump', '-p' + s, 'shop']} returned non-zero exit status 2.",
    lambda s: f"Command {['mysqldump', '--password', s, 'shop']} returned non-zero exit status 2.",
    lambda s: f"Command {['sshpass', '-p', s, 'ssh', 'db']} returned non-zero exit status 5.",
    lambda s: f"redis-cli -h cache -a {s} ping: exit status 1",
    lambda s: f"curl --user shop:{s} http://search: exit status 7",
    lambda s: f"<login><user>shop</user><password>{s}</password></login>",
    lambda s: f'<wsse:Password Type="text">{s}</wsse:Password>',
    lambda s: f'<add key="password" value="{s}" />',
    lambda s: json.dumps([{"name": "DB_PASSWORD", "value": s}]),
    lambda s: f"GET https://api/geocode?user=7&key={s}&x=1 failed",
    lambda s: f"license: key={s}",
    lambda s: f"GET https://in/?next=https%3A%2F%2Fapi%3Ftoken%3D{quote(s, safe='')} failed",
    lambda s: f"secret -> {s}",
]
TOKEN_SHAPES = [
    lambda s: f"refused Bearer {s}xyz789",
    lambda s: f"bad header 'Basic {s}xyz789'",
    lambda s: f"X-Api-Key: {s}",
    lambda s: f"Cookie: id={s}; theme=dark",
]


@pytest.mark.parametrize("number", range(len(SHAPES)))
@given(secret=secrets)
@QUIET
def test_secret_does_not_survive_in_any_shape(number, secret):
    assert MARK not in redact(SHAPES[number](secret))


@pytest.mark.parametrize("number", range(len(SENTENCES)))
@given(
    secret=st.text(string.ascii_letters + string.digits + "!#$%*_+.~|/:@?=", max_size=10).map(MARK.__add__)
)
@QUIET
def test_secret_does_not_survive_in_what_a_sentence_or_a_command_says(number, secret):
    assert MARK not in redact("failed: " + SENTENCES[number](secret))


@pytest.mark.parametrize("number", range(len(TOKEN_SHAPES)))
@given(secret=plain_secrets)
@QUIET
def test_token_does_not_survive_in_any_shape(number, secret):
    assert MARK not in redact(TOKEN_SHAPES[number](secret))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "form", ["{}={}", "{}: {}", "{} = {}", "'{}': '{}'", '"{}":"{}"', "{}=>{}", "{}='{} and more'"]
)
def test_value_of_a_telling_key_does_not_survive(key, form):
    assert MARK not in redact("before " + form.format(key, MARK))


@given(secret=secrets, depth=st.integers(0, 4), shape=st.sampled_from(SHAPES))
@QUIET
def test_secret_does_not_survive_in_nested_causes(secret, depth, shape):
    exc: BaseException = OSError(shape(secret))
    for level in range(depth):
        outer = RuntimeError(f"level {level}") if level % 2 else ExceptionGroup(f"level {level}", [exc])
        outer.__cause__ = exc
        exc = outer
    assert MARK not in describe(exc)


@given(
    secret=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=4, max_size=30),
    around=st.sampled_from(["{}", "x{}x", "({})", "{!r}", "said {}."]),
)
@QUIET
def test_secret_known_by_name_does_not_survive_in_any_text(secret, around):
    for written in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1] if secret.isascii() else secret):
        masked = redact(around.format(written), secrets=[secret])
        if not set(secret) <= set("*"):
            assert secret not in masked.replace("***", "")


@pytest.mark.parametrize(
    "token",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.Zq9Xw7",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_Zq9Xw7Zq9Xw7Zq9Xw7",
        "sk_live_Zq9Xw7Zq9Xw7Zq9Xw7",
        "xoxb-123456-Zq9Xw7",
        "glpat-Zq9Xw7Zq9Xw7",
        "-----BEGIN RSA PRIVATE KEY-----\nZq9Xw7\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nZq9Xw7 and no end",
    ],
)
def test_well_known_token_does_not_survive(token):
    masked = redact(f"refused {token} here")
    assert token[:12] not in masked
    assert MARK not in masked


@pytest.mark.parametrize(
    "text",
    [
        'connection to server at "127.0.0.1", port 5432 failed: Connection refused',
        'password authentication failed for user "shop"',
        "Error 111 connecting to cache:6379. Connection refused.",
        "Expected status 200, got 503",
        "Check timed out after 5s; it has been running for 12s",
        "http://host:80/path failed, write to ops@example.org",
        "http://[::1]:8080/ refused",
        "author: nobody; compass: north; signal: 9",
        "fe_sendauth: no password supplied",
        "the password is not set; yours was changed on Monday",
        "password is too short (minimum 8)",
        "API key not valid. Please pass a valid API key.",
        "AUTH <password> called without any password configured for the default user.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "duplicate key value violates a constraint: Key (id)=(5) already exists",
        "mysql: [Warning] Using a password on the command line interface can be insecure.",
        "psql -p 5432 -U shop: exit status 2",
        "status code=503; process pid is 512",
        "token expired",
    ],
)
def test_honest_message_is_left_as_it_is(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "postgres://u:" + MARK * 100_000 + "@host",
        "password='" + f"{MARK} b" * 100_000,
        "a=" * 500_000,
        ":@" * 500_000,
        "'" * 1_000_000,
        "://" * 300_000,
        "password " * 100_000,
        "<password>" * 100_000,
        "mysql -p " * 100_000,
        "password is " * 100_000,
        "secret'" + " " * 1_000_000,
        "-" * 1_000_000,
    ],
    ids=range(13),
)
def test_huge_message_is_cut_in_little_time_and_never_through_a_secret(text):
    began = time.perf_counter()
    masked = redact(text)
    assert time.perf_counter() - began < 0.5
    assert len(masked) <= LONGEST_MESSAGE
    assert MARK not in masked


def test_password_read_from_a_file_with_its_line_break_does_not_survive():
    said = f'could not connect to postgresql://shop:{MARK}\n@db/shop: user "bob@corp" unknown'
    assert redact(said) == 'could not connect to postgresql://***@db/shop: user "bob@corp" unknown'


def test_details_are_cleaned_whatever_they_hold():
    details = {
        "password": MARK,
        "nested": {"api_key": [MARK], "url": f"redis://:{MARK}@h", 7: (1, 2.5, None, True)},
        "odd": float("nan"),
        "object": object,
        "wide": list(range(1000)),
    }
    cleaned = clean(details)
    assert MARK not in json.dumps(cleaned, allow_nan=False)
    assert cleaned["nested"]["7"] == [1, 2.5, None, True]
    assert len(cleaned["wide"]) == 50


def test_details_that_hold_themselves_are_cut():
    endless = {}
    endless["me"] = endless
    json.dumps(clean(endless))


def test_secrets_of_a_url_are_its_password_its_telling_parameters_and_a_lone_token():
    assert secrets_of("postgresql://shop:pw%40d@db/x?sslpassword=abc&connect_timeout=3") == ("pw%40d", "abc")
    assert secrets_of("https://TOKEN@api/") == ("TOKEN",)
    assert secrets_of("postgresql://shop@db/x") == ()
    assert secrets_of("http://[") == ()


@given(
    secret=secrets,
    shape=st.sampled_from(SHAPES),
    how=st.sampled_from(["raise", "cause", "message", "details"]),
)
@QUIET
def test_secret_reaches_no_body_log_record_or_event(secret, shape, how, caplog):
    said = shape(secret)

    def check():
        if how == "raise":
            raise OSError(said)
        if how == "cause":
            try:
                raise OSError(said)
            except OSError as exc:
                raise RuntimeError("lost it") from exc
        if how == "message":
            return HealthCheckResult("db", HealthStatus.UNHEALTHY, 0, message=said)
        return HealthCheckResult("db", HealthStatus.UNHEALTHY, 0, details={"said": said, "password": secret})

    caplog.clear()
    caplog.set_level(logging.DEBUG)
    seen = []
    listener = lambda sender, event: seen.append(repr(event))
    registry = HealthRegistry(on_change=seen.append)
    events.check_finished.connect(listener, sender=registry)
    events.health_changed.connect(listener, sender=registry)
    registry.add("db", check)
    app = Flask(__name__)
    app.config["SVC_INFRA_HEALTH_CACHE_TTL"] = 0
    add_health_routes(app, registry)
    client = app.test_client()
    published = [
        client.get(path, headers={"Accept": accept}).get_data(as_text=True)
        for path in ("/_health/ready?verbose", "/_health/startup", "/_health/checks/db")
        for accept in ("application/json", "text/plain", "application/health+json")
    ]
    published += [repr(seen), caplog.text, repr(registry.snapshot()), *(str(vars(r)) for r in caplog.records)]
    assert len(seen) >= 3
    assert not [each for each in published if MARK in each]


@pytest.mark.parametrize("factory", [check_database, check_redis, check_broker])
def test_form_that_our_own_errors_ask_for_is_no_secret(factory):
    with pytest.raises(ConfigurationError) as caught:
        factory("mysql:/me:s3cret@db/shop")
    assert "user:password@" in redact(str(caught.value))
    assert redact(str(caught.value)) == str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:password@host:5432/database",
        "redis://user:password@host",
        "x://user:password@host:port:y@z",
    ],
)
def test_url_that_could_be_somebodys_is_masked_however_much_it_looks_like_a_form(url):
    assert "password" not in redact(f"cannot reach {url}")
