# The hub in a container; docs/deploy/docker.md says how to run it.
FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY wsgi.py gunicorn.conf.py ./
COPY templates templates
COPY webapp webapp
# The hub may write to the folder of its event log only, so Python compiles it now.
RUN python -m compileall -q webapp && install -d -o 1000 -g 1000 instance
ENV PYTHONUNBUFFERED=1
USER 1000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s CMD ["python", "-c", "import http.client, os; hub = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=2); hub.request('GET', '/healthz'); raise SystemExit(hub.getresponse().status != 200)"]
# A platform says by PORT where the hub listens, and has a proxy in front of it. Elsewhere the hub
# must not trust one, so its address is set by TIDINGS_BIND.
CMD ["sh", "-c", "[ -n \"$PORT\" ] || export TIDINGS_BIND=\"${TIDINGS_BIND:-0.0.0.0:8000}\"; exec gunicorn wsgi:app"]
