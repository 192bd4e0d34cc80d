"""check_disk on the file system that is there, check_dns with the resolver that is there."""

import shutil

import pytest

from flask_svc_infra import ConfigurationError
from flask_svc_infra.health import HealthRegistry, HealthStatus, check_disk, check_dns


def free_part(path):
    usage = shutil.disk_usage(path)
    return usage.free / usage.total


def test_room_enough_is_healthy_and_told_in_bytes(tmp_path):
    result = check_disk(tmp_path, degraded_below=0, unhealthy_below=0)()
    assert (result.name, result.status, result.message) == ("disk", HealthStatus.HEALTHY, None)
    assert result.details["total_bytes"] == shutil.disk_usage(tmp_path).total


def test_little_room_is_degraded_and_less_is_unhealthy(tmp_path):
    part = free_part(tmp_path)
    assert 0.001 < part < 0.999, "this test needs a disk that is neither full nor empty"
    degraded = check_disk(tmp_path, degraded_below=part + 0.0005, unhealthy_below=part - 0.0005)()
    assert degraded.status is HealthStatus.DEGRADED
    assert f"free at {tmp_path}" in degraded.message
    unhealthy = check_disk(str(tmp_path), degraded_below=1, unhealthy_below=min(1, part + 0.0005))()
    assert unhealthy.status is HealthStatus.UNHEALTHY


def test_folder_that_went_away_is_unhealthy(tmp_path):
    place = tmp_path / "mount"
    place.mkdir()
    check = check_disk(place)
    place.rmdir()
    assert check().status is HealthStatus.UNHEALTHY


@pytest.mark.parametrize(
    "options",
    [
        {"degraded_below": 1.5},
        {"unhealthy_below": -0.1},
        {"degraded_below": 0.1, "unhealthy_below": 0.2},
        {"degraded_below": "10%"},
        {"unhealthy_below": True},
        {"path": "/no/such/place"},
        {"path": 7},
    ],
)
def test_option_that_cannot_work_is_refused(options):
    with pytest.raises(ConfigurationError, match="no check was made"):
        check_disk(**options)


def test_known_name_is_healthy():
    check = check_dns("localhost")
    result = check()
    assert check.name == result.name == "localhost"
    assert result.status is HealthStatus.HEALTHY
    assert {"127.0.0.1", "::1"} & set(result.details["addresses"])


def test_unknown_name_is_unhealthy():
    registry = HealthRegistry()
    registry.add("dns", check_dns("no-such-host.invalid"))
    result = registry.check_one("dns")
    assert result.status is HealthStatus.UNHEALTHY
    assert result.message


@pytest.mark.parametrize("name", ["", None, 7, "http://h", "h:80", "a b", "x" * 254, "user@h"])
def test_name_that_is_none_is_refused(name):
    with pytest.raises(ConfigurationError, match="host name"):
        check_dns(name)
