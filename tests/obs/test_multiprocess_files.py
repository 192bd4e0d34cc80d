"""The directory: whose a file is, what dead processes leave, and what damage does."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from obs.reading import Samples, scrape
from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from flask_svc_infra.obs import add_observability, catalog, compaction, dbfile, merge, multiprocess
from flask_svc_infra.obs.cells import MappedCells
from flask_svc_infra.obs.instruments import Instruments
from flask_svc_infra.obs.owners import PLAIN, is_alive, own_name, parse_name, start_of

DEAD = 2**22 + 17
"""No Linux gives out a process id this high."""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "metrics"
    path.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(path))
    return path


def write(path: Path, values: dict[tuple[str, str], float], **labels: str) -> None:
    """Write a file as prometheus_client does: with its own code."""
    file = MmapedDict(str(path))
    for (metric, sample), value in values.items():
        file.write_value(
            dbfile.key_text(metric, sample, list(labels), list(labels.values()), "help"), value, 0.0
        )
    file.close()


def total(directory: Path, name: str, tag: str = PLAIN) -> float | None:
    found = {
        sample.name: sample.value
        for metric in merge.families(merge.read_directory(directory)(tag))
        for sample in metric.samples
    }
    return found.get(name)


class TestLayout:
    def test_prometheus_client_reads_what_we_write(self, directory: Path) -> None:
        cells = MappedCells(lambda: directory / "counter_1-1-a.db")
        places = [
            cells.new(lambda n=n: dbfile.key_text("m", "m_total", ["x"], ["ä" * n], "h")) for n in range(400)
        ]
        for n, place in enumerate(places):
            cells.values[place] += n
        read = list(MmapedDict.read_all_values_from_file(str(directory / "counter_1-1-a.db")))
        assert [value for _, value, _, _ in read] == [float(n) for n in range(400)]

    def test_its_collector_shows_our_totals(self, directory: Path) -> None:
        app = Flask("ours")
        add_observability(app)
        for _ in range(3):
            app.test_client().get("/nowhere")
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(directory))
        labels = {"method": "GET", "path": "<unmatched>", "status": "404"}
        assert registry.get_sample_value("http_requests_total", labels) == 3

    @settings(max_examples=50, deadline=None)
    @given(st.dictionaries(st.text(max_size=30), st.floats(allow_nan=False), max_size=20))
    def test_what_is_built_is_read_back(self, values: dict[str, float]) -> None:
        data = dbfile.build(
            {key.encode() or b"-": (value, 1.0) for key, value in values.items()}, tail=b"a.db"
        )
        assert dict(dbfile.entries(data)) == {k.encode() or b"-": (v, 1.0) for k, v in values.items()}
        assert dbfile.tail(data) == b"a.db"

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=300))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        try:
            for raw, _ in dbfile.entries(data):
                dbfile.parse_key(raw)
        except dbfile.CorruptFileError:
            pass

    def test_row_handed_out_before_growing_stays_valid(self, directory: Path) -> None:
        path = directory / "counter_1-1-a.db"
        cells = MappedCells(lambda: path)
        first = cells.new(lambda: dbfile.key_text("m", "m_total", ["x"], ["first"], "h"))
        before = cells.values
        for n in range(1000):
            cells.new(lambda n=n: dbfile.key_text("m", "m_total", ["x"], [str(n)], "h"))
        assert cells.values is not before
        before[first] += 7.0
        assert cells.values[first] == 7.0

    def test_full_disk_costs_values_and_no_request(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = Flask("full")
        add_observability(app)

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        for _ in range(3):
            assert app.test_client().get("/").status_code == 404
        assert sum("requests cannot be counted" in r.getMessage() for r in caplog.records) == 1
        monkeypatch.undo()
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
        app.test_client().get("/")
        assert scrape(app.test_client())("http_requests_total", status="404") == 1

    def test_emptied_directory_is_filled_again(self, directory: Path) -> None:
        instruments = Instruments([catalog.BREAKER_CALLS], buckets=(), directory=directory, tag="t")
        instruments.inc(catalog.BREAKER_CALLS, ("a", "success"))
        for file in directory.glob("*.db"):
            file.unlink()
        for n in range(200):
            instruments.inc(catalog.BREAKER_CALLS, (f"a{n}", "success"))
        assert total(directory, "circuit_breaker_calls_total", "t") is not None


class TestOwners:
    def test_our_files_name_process_start_and_app(self) -> None:
        name = parse_name(Path(own_name("gauge_livesum", "a1b2")))
        assert name is not None
        assert (name.prefix, name.pid, name.start, name.tag) == (
            "gauge_livesum",
            os.getpid(),
            start_of(os.getpid()),
            "a1b2",
        )
        assert is_alive(name)

    def test_reused_process_id_is_not_taken_for_the_dead_owner(self) -> None:
        name = parse_name(Path(f"counter_{os.getpid()}-1-a1b2.db"))
        assert name is not None
        assert not is_alive(name)

    def test_zombie_is_dead(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", ""])
        try:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            name = parse_name(Path(f"counter_{child.pid}.db"))
            assert name is not None
            assert not is_alive(name)
        finally:
            child.wait()

    @pytest.mark.parametrize("name", ["README", "counter.db", "counter_1.db.corrupt", ".lock", "else_1.db"])
    def test_other_files_are_none_of_ours(self, name: str) -> None:
        assert parse_name(Path(name)) is None

    def test_owner_with_another_kind_of_name_is_never_dead(self, directory: Path) -> None:
        write(directory / "counter_worker-a.db", {("jobs", "jobs_total"): 4.0})
        assert total(directory, "jobs_total") == 4
        assert (directory / "counter_worker-a.db").exists()


class TestTheDead:
    def test_counters_of_the_dead_are_merged_and_kept(self, directory: Path) -> None:
        for n in range(5):
            write(directory / f"counter_{DEAD + n}.db", {("jobs", "jobs_total"): 2.0})
        assert total(directory, "jobs_total") == 10
        assert [p.name for p in directory.glob("*.db")] == ["counter_merged.db"]
        assert total(directory, "jobs_total") == 10

    def test_merged_file_grows_by_later_deaths(self, directory: Path) -> None:
        write(directory / f"counter_{DEAD}.db", {("jobs", "jobs_total"): 2.0})
        assert total(directory, "jobs_total") == 2
        write(directory / f"counter_{DEAD}.db", {("jobs", "jobs_total"): 3.0})
        assert total(directory, "jobs_total") == 5

    def test_histograms_stay_cumulative(self, directory: Path) -> None:
        for n in range(2):
            file = MmapedDict(str(directory / f"histogram_{DEAD + n}.db"))
            for bound, value in (("0.1", 1.0), ("1.0", 2.0), ("+Inf", 3.0)):
                file.write_value(dbfile.key_text("h", "h_bucket", ["le"], [bound], "help"), value, 0.0)
            file.write_value(dbfile.key_text("h", "h_sum", [], [], "help"), 9.0, 0.0)
            file.close()
        for _ in range(2):
            (metric,) = merge.families(merge.read_directory(directory)(PLAIN))
            found = {(s.name, s.labels.get("le")): s.value for s in metric.samples}
            assert found == {
                ("h_bucket", "0.1"): 2,
                ("h_bucket", "1.0"): 6,
                ("h_bucket", "+Inf"): 12,
                ("h_count", None): 12,
                ("h_sum", None): 18,
            }

    @pytest.mark.parametrize("mode", ["livesum", "livemax", "liveall", "livemostrecent", "all"])
    def test_gauges_of_the_dead_are_gone_at_the_first_scrape(self, directory: Path, mode: str) -> None:
        write(directory / f"gauge_{mode}_{DEAD}.db", {("g", "g"): 7.0})
        assert total(directory, "g") is None
        assert not list(directory.glob("gauge*"))

    @pytest.mark.parametrize(("mode", "expected"), [("min", 1.0), ("max", 3.0), ("sum", 6.0)])
    def test_gauges_that_count_the_dead_in_do(self, directory: Path, mode: str, expected: float) -> None:
        for n in (1, 2, 3):
            write(directory / f"gauge_{mode}_{DEAD + n}.db", {("g", "g"): float(n)})
        for _ in range(2):
            assert total(directory, "g") == expected

    def test_gauge_of_each_living_process_shows_its_pid(self, directory: Path) -> None:
        write(directory / f"gauge_all_{os.getpid()}.db", {("g", "g"): 7.0})
        (metric,) = merge.families(merge.read_directory(directory)(PLAIN))
        assert metric.samples[0].labels == {"pid": str(os.getpid())}

    def test_killed_between_rename_and_unlink_counts_nothing_twice(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = directory / f"counter_{DEAD}-5-p.db"
        write(left, {("jobs", "jobs_total"): 2.0})
        with monkeypatch.context() as patched:
            patched.setattr(compaction, "_unlink", lambda paths: list(paths) and pytest.fail("killed"))
            with pytest.raises(pytest.fail.Exception):
                compaction.compact(directory)
        assert left.exists()
        assert (directory / "counter_merged-p.db").exists()
        write(directory / f"counter_{DEAD + 1}-5-p.db", {("jobs", "jobs_total"): 3.0})
        for _ in range(2):
            assert total(directory, "jobs_total", "p") == 5
        assert not left.exists()

    def test_reader_skips_what_a_merged_file_has_absorbed(self, directory: Path) -> None:
        name = f"counter_{os.getpid()}.db"
        write(directory / name, {("jobs", "jobs_total"): 2.0})
        key = dbfile.key_text("jobs", "jobs_total", [], [], "help").encode()
        (directory / "counter_merged.db").write_bytes(dbfile.build({key: (2.0, 0.0)}, tail=name.encode()))
        assert total(directory, "jobs_total") == 2

    def test_process_that_took_over_the_id_keeps_its_file(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It opened the dead one's file just before that was set aside, and goes on counting in it."""
        write(directory / f"counter_{DEAD}.db", {("jobs", "jobs_total"): 2.0})
        answers = iter([False, False, True, True, True])
        monkeypatch.setattr(compaction, "is_alive", lambda name: next(answers))
        compaction.compact(directory)
        (left,) = directory.glob("*.db")
        assert left.name.startswith(f"counter_{DEAD}-x")

    def test_scrapes_and_mergers_at_once_agree(self, directory: Path) -> None:
        for n in range(60):
            write(directory / f"counter_{DEAD + n}.db", {("jobs", "jobs_total"): 1.0})
        seen: list[float | None] = []
        barrier = threading.Barrier(6)

        def look() -> None:
            barrier.wait(10)
            seen.extend(total(directory, "jobs_total") for _ in range(5))

        threads = [threading.Thread(target=look) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(seen) == {60.0}

    def test_uwsgi_workers_are_not_taken_for_process_ids(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(directory / f"counter_{DEAD}.db", {("jobs", "jobs_total"): 2.0})
        monkeypatch.setitem(sys.modules, "uwsgi", object())
        compaction.compact(directory)
        assert (directory / f"counter_{DEAD}.db").exists()

    def test_worker_exited_clears_up_at_once(self, directory: Path) -> None:
        write(directory / f"gauge_livesum_{DEAD}.db", {("g", "g"): 7.0})
        write(directory / f"counter_{DEAD}.db", {("jobs", "jobs_total"): 2.0})
        multiprocess.worker_exited(DEAD)
        assert [p.name for p in directory.glob("*.db")] == ["counter_merged.db"]

    def test_damage_that_the_master_finds_is_counted(self, directory: Path) -> None:
        (directory / f"counter_{DEAD}.db").write_bytes(b"damaged")
        multiprocess.worker_exited(DEAD)
        assert total(directory, "svc_infra_metric_files_skipped_total", "process") == 1

    def test_worker_exited_outside_multiprocess_mode_does_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
        multiprocess.worker_exited(DEAD)


class TestDamage:
    @pytest.fixture
    def app(self, directory: Path) -> Flask:
        app = Flask("damaged", static_folder=None)
        add_observability(app)
        app.test_client().get("/nowhere")
        return app

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"\x00",
            b"not a metric file at all",
            struct.pack("i", 1 << 30) + b"\0" * 100,
            struct.pack("i", -5) + b"\0" * 100,
            struct.pack("ii", 64, 0) + b"\xff" * 56,
            dbfile.build({b"not json": (1.0, 0.0)}),
            dbfile.build({b'["m", 5, {}, "h"]': (1.0, 0.0)}),
            dbfile.build({b'["h", "h_bucket", {"le": "many"}, "h"]': (1.0, 0.0)}),
        ],
    )
    @pytest.mark.parametrize(
        "name", [f"counter_{DEAD}.db", f"histogram_{DEAD}-1-process.db", "counter_odd.db"]
    )
    def test_damaged_file_is_skipped_counted_and_logged_once(
        self, app: Flask, directory: Path, damage: bytes, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = scrape(app.test_client())("svc_infra_metric_files_skipped_total")
        (directory / name).write_bytes(damage)
        for _ in range(3):
            found = scrape(app.test_client())
        assert found("http_requests_total", status="404") == 1
        assert scrape(app.test_client())("svc_infra_metric_files_skipped_total") == before + 1
        assert sum("is damaged" in r.getMessage() for r in caplog.records) == 1

    def test_damage_behind_good_values_keeps_those(self, directory: Path) -> None:
        path = directory / f"counter_{DEAD}.db"
        good = dbfile.build({dbfile.key_text("jobs", "jobs_total", [], [], "h").encode(): (5.0, 0.0)})
        data = struct.pack("i", len(good) + 40) + good[4:] + b"\xff" * 40
        path.write_bytes(data)
        for _ in range(3):
            assert total(directory, "jobs_total") == 5
        assert (directory / f"{path.stem}-x.db.corrupt").exists() or list(directory.glob("*.corrupt"))

    def test_empty_file_of_a_living_process_is_being_made(
        self, app: Flask, directory: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (directory / f"counter_{os.getpid()}.db").write_bytes(b"")
        scrape(app.test_client())
        assert not [r for r in caplog.records if "is damaged" in r.getMessage()]

    def test_file_of_another_type_for_one_name_does_not_mix(self, directory: Path) -> None:
        write(directory / f"counter_{os.getpid()}.db", {("x", "x_total"): 1.0})
        write(directory / f"gauge_livesum_{os.getpid()}.db", {("x", "x"): 9.0})
        (metric,) = merge.families(merge.read_directory(directory)(PLAIN))
        assert [s.name for s in metric.samples] == ["x_total"]

    def test_unreadable_directory_lock_does_not_stop_a_scrape(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fcntl

        def refuse(*_: Any) -> None:
            raise OSError(95, "Operation not supported")

        write(directory / f"counter_{DEAD}.db", {("jobs", "jobs_total"): 2.0})
        monkeypatch.setattr(fcntl, "flock", refuse)
        assert total(directory, "jobs_total") == 2


class TestSeveralApps:
    def test_two_apps_count_apart(self, make_app: Callable[..., Flask]) -> None:
        one, two = make_app("same"), make_app("same")
        for _ in range(3):
            one.test_client().get("/items/1")
        two.test_client().get("/items/1")
        labels = {"path": "/items/<int:item>", "status": "200"}
        assert scrape(one.test_client())("http_requests_total", **labels) == 3
        assert scrape(two.test_client())("http_requests_total", **labels) == 1

    def test_users_metric_of_one_apps_registry_is_not_in_the_others(self, directory: Path) -> None:
        from prometheus_client import Counter

        from flask_svc_infra.mounts import mounts_of

        one, two = Flask("one", static_folder=None), Flask("two", static_folder=None)
        undo = [add_observability(one), add_observability(two)]
        Counter("only_one", "help", registry=mounts_of(one).parts["obs.registry"])
        write(directory / f"counter_{os.getpid()}.db", {("only_one", "only_one_total"): 4.0})
        texts = [Samples(app.test_client().get("/metrics").text) for app in (one, two)]
        for call in undo:
            call()
        if not multiprocess.warn_if_late():  # else users' metrics are shown from memory
            assert [t("only_one_total") for t in texts] == [4, 0]

    def test_fifty_rebuilds_leave_one_set_of_series(self, mode: str) -> None:
        import gc

        for _ in range(50):
            app = Flask("rebuilt", static_folder=None)
            app.add_url_rule("/", "home", lambda: "ok")
            add_observability(app)
            found = scrape(app.test_client())
            assert len(found.find("http_requests_total")) == 2
            del app
            gc.collect()


class TestForks:
    def test_child_counts_in_a_file_of_its_own(self, mode: str) -> None:
        app = Flask("forked", static_folder=None)
        app.add_url_rule("/", "home", lambda: "ok")
        undo = add_observability(app)
        client = app.test_client()
        client.get("/")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for _ in range(5):
                    app.test_client().get("/")
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        expected = 6 if mode == "several processes" else 1
        assert scrape(client)("http_requests_total", path="/", status="200") == expected
        assert scrape(client)("http_requests_in_progress") == 0
        undo()

    def test_child_that_begins_with_a_method_new_to_it_counts_everything(self, mode: str) -> None:
        app = Flask("methods", static_folder=None)
        app.add_url_rule("/", "home", lambda: "ok", methods=["GET", "POST"])
        undo = add_observability(app)
        app.test_client().get("/")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                client = app.test_client()
                client.post("/")
                client.get("/")
                code = scrape(client)("http_requests_total", path="/") != 3
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        undo()

    def test_child_that_serves_nothing_leaves_nothing(self, directory: Path) -> None:
        app = Flask("quiet", static_folder=None)
        undo = add_observability(app)
        app.test_client().get("/")
        before = set(directory.iterdir())
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        assert set(directory.iterdir()) == before
        undo()


class TestPrepare:
    def run(self, code: str, **environ: str) -> str:
        env = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"} | environ
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout + done.stderr

    def test_makes_a_directory_before_prometheus_client_is_imported(self) -> None:
        said = self.run(
            "import os, sys\n"
            "from flask_svc_infra.obs.multiprocess import prepare\n"
            "path = prepare()\n"
            "assert 'prometheus_client' not in sys.modules and 'flask' not in sys.modules\n"
            "from prometheus_client import values\n"
            "print(values.ValueClass._multiprocess, os.environ['PROMETHEUS_MULTIPROC_DIR'] == path, path)"
        )
        multi, same, path = said.split()
        assert (multi, same) == ("True", "True")
        assert not Path(path).exists()  # it was ours, and went with the process

    def test_cleans_the_dead_and_leaves_the_living(self, tmp_path: Path) -> None:
        write(tmp_path / f"counter_{DEAD}.db", {("jobs", "jobs_total"): 2.0})
        write(tmp_path / f"counter_{os.getpid()}.db", {("jobs", "jobs_total"): 2.0})
        (tmp_path / "notes.txt").write_text("mine")
        self.run(
            "from flask_svc_infra.obs.multiprocess import prepare; prepare()",
            PROMETHEUS_MULTIPROC_DIR=str(tmp_path),
        )
        assert {p.name for p in tmp_path.iterdir()} == {f"counter_{os.getpid()}.db", "notes.txt"}

    def test_says_the_cure_when_it_comes_too_late(self, tmp_path: Path) -> None:
        said = self.run(
            "import prometheus_client\n"
            "from flask_svc_infra.obs.multiprocess import prepare\n"
            f"prepare({str(tmp_path)!r})"
        )
        assert "after prometheus_client was imported" in said
        assert "Set it before Python starts" in said

    def test_directory_that_cannot_be_made_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError):
            multiprocess.prepare(tmp_path / "file" / "metrics")


def test_nan_takes_a_gauge_back(mode: str, directory: Path) -> None:
    where = directory if mode == "several processes" else None
    instruments = Instruments([catalog.BULKHEAD_LIMIT], buckets=(), directory=where, tag="nan")
    instruments.set(catalog.BULKHEAD_LIMIT, ("gone",), 4.0)
    instruments.set(catalog.BULKHEAD_LIMIT, ("gone",), math.nan)
    instruments.set(catalog.BULKHEAD_LIMIT, ("here",), 4.0)
    families = instruments.collect() if where is None else merge.families(merge.read_directory(where)("nan"))
    assert [s.labels["name"] for s in families[0].samples] == ["here"]
