"""The store in a file: full and read-only disks, files that are not ours, that vanish, many processes."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from state.conftest import open_, put, sync
from state.worker import Process
from support.fleet import Worker
from support.forks import in_child
from support.processes import eventually

from flask_svc_infra.state.sqlite import SqliteStore
from flask_svc_infra.state.store import StoreError

OPTIONS = {"failure_threshold": 2, "recovery_timeout": 0.3, "success_threshold": 1, "poll": (0.2, 0.22)}
HOUR = 3_600_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def begin(path):
    """Start a worker in a process of its own."""
    made = []

    def make(**options):
        made.append(Process(f"sqlite:///{path}", **{**OPTIONS, **options}))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.fixture
def work(path, quick_polls, caplog):
    """Make a worker in this process."""
    caplog.set_level(logging.INFO, "flask_svc_infra.state")
    made = []

    def make(**options):
        worker = Worker(SqliteStore(str(path), "default"))
        worker.breaker(failure_threshold=2, success_threshold=1, **{"recovery_timeout": 0.3, **options})
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.reporter.stop()


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "flask_svc_infra.state"]


def whole(path):
    """Say whether the file is sound, as SQLite sees it."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def trips_and_recovers_alone(process):
    """Have the circuit of *process* trip and close again with the store away."""
    process.ask("fail", 2)
    assert process.ask("state") == "open"
    eventually(lambda: process.ask("attempts", 1, 0), timeout=3)
    process.ask("settle", "SUCCESS")
    return process.ask("state") == "closed"


def test_a_full_disk_is_a_store_that_is_down_until_there_is_room(begin, path):
    one, other = begin(), begin()
    one.ask("room", 0)  # nothing this process writes arrives, as on a full disk
    one.ask("fail", 2)
    eventually(lambda: not one.ask("up"), timeout=3)
    assert one.ask("state") == "open"
    assert other.ask("state") == "closed"
    assert one.ask("longest", 200) < 0.025  # whoever waited for the file would wait twice that
    time.sleep(0.3)
    assert trips_and_recovers_alone(one)
    assert whole(path)
    one.ask("fail", 2)
    (line,) = one.ask("log")
    assert "does not answer (OperationalError: disk I/O error)" in line
    one.ask("room", -1)
    eventually(lambda: one.ask("up"), timeout=3)
    assert "answers again" in one.ask("log")[1]
    one.ask("fail", 2)
    eventually(lambda: other.ask("state") == "open", timeout=2)
    assert len(one.ask("log")) == 2
    assert other.ask("log") == []


def test_a_disk_that_fills_up_is_found_out_while_nothing_happens(begin):
    one, other = begin(), begin()
    one.ask("room", 0)
    other.ask("room", 0)
    eventually(lambda: not one.ask("up") and not other.ask("up"), timeout=4)
    one.ask("room", -1)
    eventually(lambda: one.ask("up"), timeout=3)
    assert not other.ask("up")


FULL = """
    import ctypes, json, logging, os, sys, time
    from pathlib import Path

    libc = ctypes.CDLL(None, use_errno=True)
    folder, uid, gid = Path({folder!r}), os.getuid(), os.getgid()
    if libc.unshare(0x10020000):  # CLONE_NEWUSER | CLONE_NEWNS
        print(json.dumps("no user namespaces"))
        sys.exit()
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {{uid}} 1")
    Path("/proc/self/gid_map").write_text(f"0 {{gid}} 1")
    if libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"size=256k"):
        print(json.dumps("no tmpfs in a user namespace"))
        sys.exit()

    sys.path.insert(0, {tests!r})
    from state.test_sqlite import whole
    from state.worker import log_of
    from support.fleet import Worker
    from support.processes import eventually
    from flask_svc_infra.resilience import Outcome
    from flask_svc_infra.state import reporter
    from flask_svc_infra.state.sqlite import SqliteStore

    log, facts, filler = log_of("flask_svc_infra.state"), {{}}, folder / "filler"
    reporter.POLL = 0.2, 0.22
    one, other = (Worker(SqliteStore(str(folder / "state.db"), "default")) for _ in range(2))
    for worker in (one, other):
        worker.breaker(failure_threshold=2, success_threshold=1, recovery_timeout=0.3)
    eventually(lambda: one.reporter.up and other.reporter.up)

    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError as error:
        facts["errno"] = error.errno
    wal = (folder / "state.db-wal").stat().st_size
    one.fail(times=2)
    eventually(lambda: not one.reporter.up and not other.reporter.up, timeout=4)
    facts["apart"] = [one.state(), other.state()]
    facts["grew"] = (folder / "state.db-wal").stat().st_size - wal
    facts["whole"] = whole(folder / "state.db")
    eventually(lambda: one.breakers["payments"].remaining_timeout == 0)
    one.breakers["payments"].admit().settle(Outcome.SUCCESS)
    facts["alone"] = one.state()
    one.fail(times=2)
    facts["said"] = list(log)
    filler.unlink()
    eventually(lambda: one.reporter.up and other.reporter.up, timeout=4)
    eventually(lambda: other.state() == "open", timeout=2)
    facts["whole again"], facts["lines"] = whole(folder / "state.db"), len(log)
    print(json.dumps(facts))
"""


def test_a_file_system_without_a_byte_left_spoils_nothing(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    source = textwrap.dedent(FULL).format(folder=str(folder), tests=str(Path(__file__).parent.parent))
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    if isinstance(facts, str):
        pytest.skip(f"{facts}; RLIMIT_FSIZE stands in for it above")
    lines = facts.pop("said")
    assert facts.pop("grew") < 4096  # the rest of its last page
    assert facts == {
        "errno": 28,
        "apart": ["open", "closed"],
        "whole": True,
        "alone": "closed",
        "whole again": True,
        "lines": 4,
    }
    assert len(lines) == 2
    assert all("database or disk is full" in line for line in lines)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_read_only_is_a_store_that_is_down_until_it_can_be_written(begin, path, what):
    with_right = begin()
    with_right.ask("fail", 2)
    if what == "folder":
        with_right.kill()
        for suffix in ("-wal", "-shm"):  # as if all had closed it
            Path(f"{path}{suffix}").unlink()
    target, before = (path, 0o640) if what == "file" else (path.parent, 0o700)
    target.chmod(0o440 if what == "file" else 0o500)
    try:
        without = begin(bound=True, trouble=True)
        assert not without.ask("up")
        assert trips_and_recovers_alone(without)
        time.sleep(0.5)
        (line,) = without.ask("log")
        assert "does not answer (OperationalError: " in line
        assert "readonly" in line or "unable to open" in line
        without.ask("fail", 2)
    finally:
        target.chmod(before)
    eventually(lambda: without.ask("up"), timeout=3)
    other = begin()
    eventually(lambda: other.ask("state") == "open", timeout=2)
    assert len(without.ask("log")) == 2


def test_whoever_has_the_file_open_keeps_it_when_it_is_made_read_only(begin, path):
    one, other = begin(bound=True), begin(bound=True)
    path.chmod(0o440)
    time.sleep(0.5)
    one.ask("fail", 2)
    eventually(lambda: other.ask("state") == "open", timeout=2)
    assert one.ask("log") == other.ask("log") == []
    late = begin(bound=True, trouble=True)
    assert not late.ask("up")


def another_applications(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE orders (id)")
    connection.commit()
    connection.close()


def another_versions(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE svc_infra_state (key, value)")
    connection.execute("CREATE TABLE svc_infra_journal (entry)")
    connection.commit()
    connection.close()


def cut_in_the_middle(path):
    store = SqliteStore(str(path), "default")
    for number in range(300):
        open_(store, f"c{number}", recovery=HOUR)
    store.close()
    os.truncate(path, 8192)


GARBAGE = {
    "text": (
        lambda path: path.write_text("state\n" * 999, encoding="ascii"),
        "file is not a database; delete",
    ),
    "cut": (cut_in_the_middle, "malformed; delete it, or name another"),
    "folder": (lambda path: path.mkdir(), "unable to open database file"),
    "another application's": (another_applications, "another application's database; name one of its own"),
    "another version's": (another_versions, "no such column: namespace; delete it"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_not_ours_is_a_store_that_is_down_and_stays_as_it_is(kind, path, work, caplog):
    make, reason = GARBAGE[kind]
    make(path)
    content = None if path.is_dir() else path.read_bytes()
    worker = work()
    eventually(lambda: worker.reporter.met)
    time.sleep(0.6)
    (line,) = said(caplog)
    assert reason in line
    assert not worker.reporter.up
    worker.fail(times=2)
    assert worker.state() == "open"
    if content is None:
        path.rmdir()
    else:
        assert path.read_bytes() == content
        path.unlink()
    eventually(lambda: worker.reporter.up, timeout=3)
    other = work()
    eventually(lambda: other.state() == "open", timeout=2)
    assert len(said(caplog)) == 2


def test_a_missing_folder_is_a_store_that_is_down_until_it_is_made(path, work, caplog):
    path.parent.rmdir()
    worker = work()
    eventually(lambda: worker.reporter.met)
    worker.fail(times=2)
    assert worker.state() == "open"
    (line,) = said(caplog)
    assert "No such file or directory" in line
    path.parent.mkdir()
    eventually(lambda: worker.reporter.up, timeout=3)
    other = work()
    eventually(lambda: other.state() == "open", timeout=2)


def test_an_empty_file_is_ours(path, work, caplog):
    path.touch()
    one, other = work(), work()
    one.fail(times=2)
    eventually(lambda: other.state() == "open", timeout=2)
    assert said(caplog) == []


def older_copy(path):
    aside = path.with_name("older.db")
    store = SqliteStore(str(aside), "default")
    open_(store, "another", recovery=HOUR)
    store.close()
    aside.replace(path)


def cut_to_nothing(path):
    os.truncate(path, 0)


LOSSES = {
    "deleted": lambda path: path.unlink(),
    "deleted with its WAL": lambda path: [Path(f"{path}{end}").unlink() for end in ("", "-wal", "-shm")],
    "replaced": older_copy,
    "no WAL": lambda path: Path(f"{path}-wal").unlink(),
    "no index": lambda path: Path(f"{path}-shm").unlink(),
    "cut to nothing": cut_to_nothing,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_file_that_is_lost_under_the_processes_splits_no_fleet(loss, path, begin):
    options = {"recovery_timeout": 3600}
    fleet = [begin(**options) for _ in range(2)]
    fleet[0].ask("fail", 2)
    eventually(lambda: all(process.ask("state") == "open" for process in fleet), timeout=3)
    LOSSES[loss](path)
    late = begin(**options, trouble=True)  # it knows nothing but what is in the file
    eventually(lambda: late.ask("state") == "open", timeout=5)
    fleet[1].ask("reset")
    eventually(lambda: all(process.ask("state") == "closed" for process in [*fleet, late]), timeout=5)
    assert all(process.ask("up") for process in fleet)
    assert whole(path)
    for process in fleet:
        log = process.ask("log")
        downs = [line for line in log if "does not answer" in line]
        assert len(log) == 2 * len(downs) <= 4, log


def test_the_wal_of_a_replaced_file_is_not_read_into_the_new_one(path):
    one, other, new = (SqliteStore(str(each), "default") for each in (path, path, path.with_name("new.db")))
    put(one, body="of the old file")
    sync(other)
    put(new, body="of the new file")
    new.close()
    path.with_name("new.db").replace(path)
    for store in (one, other):
        with pytest.raises(StoreError, match="deleted or replaced; it is opened anew"):
            put(store, body="into the old file")
    for store in (one, other):
        assert sync(store, seen=-1)["documents"]["maintenance"]["body"] == "of the new file"
    assert whole(path)
    one.close()
    other.close()


def test_a_file_that_is_replaced_while_it_is_opened_is_left(path):
    store = SqliteStore(str(path), "default")
    prepare = store._file._prepare

    def replaced(connection):
        path.rename(path.with_name("old.db"))
        path.touch()
        store._file._prepare = prepare
        return prepare(connection)

    store._file._prepare = replaced
    with pytest.raises(StoreError, match="replaced while it was opened"):
        put(store)
    assert put(store)["version"] == 1
    assert path.stat().st_size > 0
    store.close()


def test_hostile_rows_are_ignored_and_said_once(path, work, caplog):
    store = SqliteStore(str(path), "default")
    store.act("journal", {"limit": 1})
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    rows = {
        "blob": b"\xff\xfe",
        "not UTF-8": "CAST(x'ff7b7d' AS TEXT)",
        "endless": '{"epoch":1e999,"state":"open","until":0,"opens":0,"successes":0,"reason":""}',
        "deep": "[" * 100_000,
        "number": "1",
    }
    for name, value in rows.items():
        placeholder, values = ("?", (value,)) if name != "not UTF-8" else (value, ())
        connection.execute(
            f"INSERT INTO svc_infra_state VALUES ('default', 'records', '{name}', {placeholder})", values
        )
    connection.execute("INSERT INTO svc_infra_state VALUES ('default', 'records', x'ff00', '{}')")
    connection.execute("INSERT INTO svc_infra_state VALUES ('default', 'meta', 'revision', '7')")
    connection.execute("INSERT INTO svc_infra_journal (namespace, entry) VALUES ('default', 'garbage')")
    connection.close()
    one, other = work(), work()
    one.fail(times=2)
    eventually(lambda: other.state() == "open", timeout=2)
    assert len(said(caplog)) == 2  # one of each worker
    assert all("'not UTF-8', 'number'" in line for line in said(caplog))
    entries = one.reporter.store.act("journal", {"limit": 10})["entries"]
    assert [entry["what"] for entry in entries] == ["closed -> open"]


@pytest.mark.parametrize("name", ["state of the shop.db", "100%.db", "zustände.db", "a?b.db", "a;b'c\"d.db"])
def test_files_of_any_name(tmp_path, name):
    path = tmp_path / name
    store = SqliteStore(str(path), "default")
    assert open_(store, recovery=HOUR)["state"] == "open"
    store.close()
    assert path.stat().st_size > 0


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o640), (0o077, 0o600), (0o002, 0o660), (0, 0o660)])
def test_no_stranger_reads_the_file(path, umask, mode):
    before = os.umask(umask)
    try:
        store = SqliteStore(str(path), "default")
        open_(store)
    finally:
        os.umask(before)
    assert [Path(f"{path}{end}").stat().st_mode & 0o777 for end in ("", "-wal", "-shm")] == [mode] * 3
    store.close()


def test_polls_write_once_a_second_however_many_poll(path):
    stores = [SqliteStore(str(path), "default") for _ in range(4)]
    put(stores[0])
    reader = sqlite3.connect(path)
    began, written = time.monotonic(), set()
    for turn in range(40):
        sync(stores[turn % 4], seen=-1)
        written |= set(reader.execute("SELECT value FROM svc_infra_state WHERE name = 'written'"))
    assert 1 <= len(written) <= 1 + (time.monotonic() - began)
    reader.close()
    for store in stores:
        store.close()


def test_a_stopped_process_in_a_transaction_is_a_store_that_hangs(path, work):
    one, other = work(), work()
    eventually(lambda: one.reporter.up and other.reporter.up)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    one.fail(times=2)
    eventually(lambda: not one.reporter.up and not other.reporter.up, timeout=3)
    assert (one.state(), other.state()) == ("open", "closed")
    holder.execute("ROLLBACK")
    holder.close()
    eventually(lambda: other.state() == "open", timeout=3)


def test_a_reader_that_stays_does_not_stop_writers(path):
    store = SqliteStore(str(path), "default")
    open_(store)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM svc_infra_state").fetchone()
    assert put(store, body="1")["version"] == 1
    reader.close()
    store.close()


def test_the_wal_stays_bounded_while_others_poll_and_is_cut_after_a_long_read(path):
    store, wal = SqliteStore(str(path), "default"), Path(f"{path}-wal")
    put(store)
    pollers = [SqliteStore(str(path), "default") for _ in range(4)]
    done = threading.Event()
    polls = [0] * 4

    def poll(number):
        while not done.is_set():
            with suppress(StoreError):  # threads that fight for one interpreter may miss their turn
                polls[number] += bool(sync(pollers[number], seen=-1)["revision"])
            time.sleep(0.001)

    threads = [threading.Thread(target=poll, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    body, largest, version = "x" * 4000, 0, 0
    while version < 2000:  # some 40 MB of pages
        with suppress(StoreError):
            version = put(store, body=body)["version"]
        largest = max(largest, wal.stat().st_size)
    done.set()
    for thread in threads:
        thread.join(30)
    assert min(polls) > 0
    assert largest < 10_000_000
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM svc_infra_state").fetchone()
    while wal.stat().st_size < 10_000_000:
        put(store, body=body)
    reader.close()
    put(store, body=body)  # takes what was written into the file
    put(store, body=body)  # begins the WAL anew
    assert wal.stat().st_size <= 8_000_000
    for each in (store, *pollers):
        each.close()


def test_a_fork_in_the_middle_of_a_transaction_leaves_the_child_a_store_that_works(path):
    store = SqliteStore(str(path), "default")
    put(store)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            put(store, body="of the parent")
            time.sleep(0.0005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(20):
            assert in_child(lambda n=number: open_(store, f"c{n}", recovery=HOUR)["state"] == "open")
    finally:
        stop.set()
        writer.join(10)
    assert len(sync(store)["records"]) == 20
    assert whole(path)
    store.close()


LAST = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM svc_infra_state").fetchall()
connection.close()
"""


def test_a_child_holds_locks_of_its_own(path):
    """SQLite's memory of the parent's locks must not reach the child, which has none of them: once the parent
    has closed the file others would take themselves for the last ones, and delete the WAL under the child."""
    store = SqliteStore(str(path), "default")
    put(store)
    ready, go = os.pipe(), os.pipe()

    def outlive():
        put(store, body="of the child")
        os.write(ready[1], b".")
        os.read(go[0], 1)
        return Path(f"{path}-wal").exists() and put(store, body="still")["version"] == 3

    answers = []
    thread = threading.Thread(target=lambda: answers.append(in_child(outlive)))
    thread.start()
    os.read(ready[0], 1)
    store.close()
    subprocess.run([sys.executable, "-c", LAST, str(path)], check=True)
    os.write(go[1], b".")
    thread.join(30)
    for end in (*ready, *go):
        os.close(end)
    assert answers == [True]
    assert sync(store)["documents"]["maintenance"]["body"] == "still"
    store.close()


HAMMER = """
    import itertools, json, os, random, sys, threading, time
    sys.path.insert(0, {tests!r})
    sys.setswitchinterval(1e-6)
    from state.conftest import acquire, put, report, settle, sync, window
    from flask_svc_infra.state.sqlite import SqliteStore
    from flask_svc_infra.state.store import StoreError

    store, chance, until = SqliteStore({path!r}, "default"), random.Random(), time.monotonic() + 1.2
    parent, asked, refused, granted = os.getpid(), itertools.count(), [], []

    def hammer(which):
        for number in itertools.count():
            if time.monotonic() > until:
                return
            permit = f"{{os.getpid()}}-{{which}}-{{number}}"
            try:
                next(asked)
                answer = acquire(store, permit, epoch=0)
                if answer["granted"]:
                    granted.append((answer["record"]["epoch"], permit))
                    time.sleep(chance.uniform(0, 0.01))  # for the others to try
                    next(asked)
                    settle(store, permit, "failure", epoch=answer["record"]["epoch"], recovery=0)
                next(asked)
                sync(store, report("other", run=1, calls=1, windows=(window(1, last=50),)), seen=-1)
                if number % 10 == 0:
                    next(asked)
                    put(store, body=permit)
            except StoreError as error:
                refused.append(str(error))
            time.sleep(chance.uniform(0.01, 0.03))

    def threads(names):
        made = [threading.Thread(target=hammer, args=(name,)) for name in names]
        for thread in made:
            thread.start()
        return made

    def work():
        first = threads("ab")
        time.sleep(max(0, until - 0.6 - time.monotonic()))
        child = os.fork()
        if child == 0:
            first = threads("c")
        for thread in first:
            thread.join()
        os.write(1, (json.dumps([next(asked), refused, granted]) + "\\n").encode())
        if child:
            os.waitpid(child, 0)
        os._exit(0)

    children = [os.fork() for _ in range(8) if os.getpid() == parent]
    if os.getpid() == parent:
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.exit(any(codes))
    work()
"""


def test_eight_processes_with_threads_and_forks_disturb_each_other_in_nothing(path):
    store = SqliteStore(str(path), "default")
    open_(store)
    store.close()
    source = textwrap.dedent(HAMMER).format(tests=str(Path(__file__).parent.parent), path=str(path))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source], capture_output=True, text=True, timeout=60, check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    permits: dict[int, set[str]] = {}
    for _, _, granted in answers:
        for epoch, permit in granted:
            permits.setdefault(epoch, set()).add(permit)
    assert max(len(each) for each in permits.values()) <= 3
    assert len(permits) > 20
    assert len(answers) == 16
    asked, refused = sum(answer[0] for answer in answers), [text for answer in answers for text in answer[1]]
    assert len(refused) <= asked / 200, f"of {asked} operations {len(refused)} had no turn: {refused[:3]}"
    assert whole(path)


def test_after_a_restart_of_the_machine_orders_last_and_circuits_begin_anew(path, tmp_path, monkeypatch):
    """The clock begins anew too: what was told by the old one says nothing any more."""
    before = SqliteStore(str(path), "default")
    open_(before, recovery=HOUR)
    put(before, body='{"mode":"full"}', duration=HOUR)
    before.close()
    boot = tmp_path / "boot_id"
    boot.write_text("another")
    monkeypatch.setattr("flask_svc_infra.state.sqlite._BOOT_ID", boot)
    monkeypatch.setattr("flask_svc_infra.state.sqlite._now", lambda: 5_000)
    after = SqliteStore(str(path), "default")
    found = sync(after)
    assert found["records"] == {}
    assert found["documents"]["maintenance"]["body"] == '{"mode":"full"}'
    assert found["documents"]["maintenance"]["remaining"] is None
    assert put(after, body='{"mode":"off"}', age=4_000)["body"] == '{"mode":"off"}'  # given since
    after.close()
