"""The app for a WSGI server: `gunicorn wsgi:app`, or another one."""

from gevent import monkey

# gunicorn's worker has done this already. Elsewhere, threads that wait must become greenlets.
monkey.patch_all()

from webapp.app import load  # noqa: E402 - not before gevent has patched the sockets

app = load()
