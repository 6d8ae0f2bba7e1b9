"""The stream of one subscriber, and the sockets that it is written to."""
