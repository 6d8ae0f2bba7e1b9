"""Pure values and rules: events, topics, the wire format. No socket, no gevent, no Flask."""
