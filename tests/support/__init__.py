"""What the tests stand on: real servers, a TCP fault proxy, a gunicorn runner, a fake clock."""
