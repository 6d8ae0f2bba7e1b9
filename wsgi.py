"""What gunicorn serves: `gunicorn wsgi:app`; other WSGI servers can, too."""

from gevent import monkey

# gunicorn's worker has done it; elsewhere, threads that wait must become greenlets.
monkey.patch_all()

from webapp.app import load  # noqa: E402 - not before sockets are patched

app = load()
