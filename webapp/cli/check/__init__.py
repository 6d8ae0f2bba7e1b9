"""`tidings check`: test a hub, and the proxies before it, from where its users are."""
