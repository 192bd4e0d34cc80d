"""The bundled dashboards as typed Python; ``scripts/build_dashboards.py`` writes them as JSON."""
