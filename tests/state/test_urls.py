"""Which URL makes which store, and that no credentials are shown."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_svc_infra import SvcInfra
from flask_svc_infra.cli.state import asking
from flask_svc_infra.errors import ConfigurationError
from flask_svc_infra.state.redis import RedisStore
from flask_svc_infra.state.sqlite import SqliteStore
from flask_svc_infra.state.store import MemoryStore, StoreError
from flask_svc_infra.state.urls import open_store


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("memory://", MemoryStore, "memory://"),
        ("sqlite:////a%20b/100%25/zust%C3%A4nde.db", SqliteStore, "sqlite:////a b/100%/zustände.db"),
        ("sqlite:////var/lib/state.db", SqliteStore, "sqlite:////var/lib/state.db"),
        ("redis://localhost", RedisStore, "redis://localhost"),
        ("redis://:hunter2secret@cache:6380/3", RedisStore, "redis://cache:6380/3"),
        ("rediss://ann:hunter2secret@cache:6380/3?ssl_cert_reqs=none", RedisStore, "rediss://cache:6380/3"),
        ("redis://cache/0?password=hunter2secret", RedisStore, "redis://cache/0"),
        ("unix:///run/redis.sock?password=hunter2secret", RedisStore, "unix:///run/redis.sock"),
        ("redis+sentinel://:hunter2secret@a:1,b:2/main/0", RedisStore, "redis+sentinel://a:1,b:2/main/0"),
    ],
)
def test_urls(url, kind, shown):
    store = open_store(url)
    assert isinstance(store, kind)
    assert store.url == shown
    assert "hunter2secret" not in repr(store)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "memory://x",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/x",
        "sqlite:////x.db?mode=ro",
        "sqlite:////x#1.db",
        "sqlite:////x/",
        "sqlite:////x%00.db",
        "sqlite:///:memory:",
        "postgres://:hunter2secret@x/y",
        "http://x",
        "redis://:hunter2secret@cache:port",
        "redis://:hunter2secret@[::1/0",
        "redis+sentinel://a:1",
        "redis+sentinel://a:1/main/x",
        "redis://:hunter2secret@cache/0?socket_timeout=soon",
        "redis://:hunter2secret@cache/zero",
    ],
)
def test_what_names_no_store_is_refused_without_being_shown(url):
    with pytest.raises(ConfigurationError, match="sqlite:////absolute") as caught:
        open_store(url)
    assert "hunter2secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("sign", "/?#")
def test_a_password_that_is_not_encoded_is_refused_with_the_cure_and_never_taken_for_a_host(sign):
    """``redis://:12/34@cache`` reads as the host '' at port 12, and so would be shown."""
    for password in (f"12{sign}34", f"hunter2{sign}secret"):
        for url in (f"redis://:{password}@cache:6380/0", f"rediss://ann:{password}@cache:6380/0"):
            with pytest.raises(ConfigurationError, match=r"/ as %2F, [?] as %3F, # as %23") as caught:
                open_store(url)
            assert password not in str(caught.value)
            assert "hunter2" not in str(caught.value)
    assert open_store("redis://:12%2F34%3F%23@cache:6380/0").url == "redis://cache:6380/0"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("option", ["socket_timeout", "socket_connect_timeout"])
def test_a_timeout_in_which_no_server_could_answer_is_refused_by_its_name(option, seconds):
    for url in ("redis://cache/0", "redis+sentinel://a:1/main/0"):
        with pytest.raises(ConfigurationError, match=f"option '{option}'"):
            open_store(f"{url}?{option}={seconds}")


def test_a_relative_path_would_be_another_file_in_each_folder_and_is_refused():
    with pytest.raises(ConfigurationError, match="each process would take it from its own folder"):
        open_store("sqlite:///state.db")


def test_a_relative_path_begins_in_the_apps_instance_folder(tmp_path):
    folder = tmp_path / "instance"
    store = open_store("sqlite:///state.db", folder=str(folder))
    store.act("journal", {"limit": 1})
    store.close()
    assert (folder / "state.db").exists()
    for url in ("sqlite:///:memory:", "sqlite:///"):
        with pytest.raises(ConfigurationError):
            open_store(url, folder=str(folder))


def test_the_command_and_the_workers_mean_the_same_relative_file(tmp_path, monkeypatch):
    app = Flask("shop", instance_path=str(tmp_path / "instance"))
    app.config["SVC_INFRA_STATE_URL"] = "sqlite:///state.db"
    SvcInfra(app)
    monkeypatch.chdir(tmp_path)
    with asking(app, consequence="-") as store:
        assert store.url == f"sqlite:///{tmp_path}/instance/state.db"
    reporter = app.extensions["svc_infra"].parts["state.reporter"]
    assert reporter.store.url == store.url


def test_errors_name_no_credentials(valkey):
    valkey.command("CONFIG SET requirepass right")
    store = open_store(f"redis://:hunter2secret@127.0.0.1:{valkey.port}/0")
    try:
        with pytest.raises(StoreError) as caught:
            store.act("journal", {"limit": 1})
        assert "hunter2secret" not in str(caught.value)
    finally:
        import redis

        with redis.Redis(port=valkey.port, password="right") as client:
            client.config_set("requirepass", "")


def test_timeouts_may_be_set_in_the_url(valkey):
    proxy = valkey.proxy()
    slow, patient = open_store(proxy.url), open_store(proxy.url + "?socket_timeout=5")
    proxy.delay(0.3)
    with pytest.raises(StoreError):
        slow.act("journal", {"limit": 1})
    assert patient.act("journal", {"limit": 1}) == {"entries": {}}
    slow.close()
    patient.close()


def test_sentinel_names_the_server(valkey, tmp_path):
    from support.processes import eventually, finish, free_port, spawn

    from flask_svc_infra.state.store import StoreError

    port = free_port()
    conf = tmp_path / "sentinel.conf"
    conf.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {valkey.port} 1\n", encoding="utf-8"
    )
    process = spawn([valkey.binary(), conf, "--sentinel"], log=tmp_path / "log", cwd=tmp_path)
    store = open_store(f"redis+sentinel://127.0.0.1:{port}/main/0")

    def answers():
        try:
            return store.act("journal", {"limit": 1})
        except StoreError as error:
            raise AssertionError(str(error)) from error

    try:
        assert eventually(answers) == {"entries": {}}
    finally:
        store.close()
        finish(process)
