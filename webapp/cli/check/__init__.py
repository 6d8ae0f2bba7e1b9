"""`tidings check`: find out what a hub and the proxies before it really do."""
