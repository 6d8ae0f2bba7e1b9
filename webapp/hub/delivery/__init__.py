"""New events to the subscribers: feeds, the dispatcher, the fan-out."""
