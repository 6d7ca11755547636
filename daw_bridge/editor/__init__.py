"""The editor: the rhythm inside a recording, on a page in the browser, served on this machine alone."""
