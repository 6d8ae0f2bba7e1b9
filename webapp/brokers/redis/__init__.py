"""The event log of many machines: a stream in Redis or Valkey."""
